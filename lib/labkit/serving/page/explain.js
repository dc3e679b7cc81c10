"use strict";
// Why the row is predicted as it is, and sliders to try other values; loaded before try.js.
const MOST_SHOWN = 10;
const SVG = "http://www.w3.org/2000/svg";

function nameColumn(column) {
  return column.meaning ?? column.name;
}

function nameClass(name) {
  return model.labels?.[name] ?? String(name);
}

function showSigned(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toLocaleString("en", { maximumSignificantDigits: 3 })}`;
}

// A bar from the middle to the left for what lowers the prediction, to the right for what raises it. A screen reader
// reads the number beside it.
function drawBar(value, longest) {
  const drawing = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "-100 0 200 10", preserveAspectRatio: "none", "aria-hidden": "true" };
  for (const [key, attribute] of Object.entries(attributes)) drawing.setAttribute(key, attribute);
  const length = longest ? 100 * Math.abs(value) / longest : 0;
  for (const [kind, x, width] of [[value < 0 ? "lower" : "higher", value < 0 ? -length : 0, length], ["axis", -0.5, 1]]) {
    const box = document.createElementNS(SVG, "rect");
    for (const [key, attribute] of Object.entries({ class: kind, x, y: 0, width, height: 10 })) {
      box.setAttribute(key, attribute);
    }
    drawing.append(box);
  }
  return drawing;
}

function makeContribution(name, shown, value, longest) {
  return make("tr", {}, make("th", { scope: "row" }, name, make("span", { class: "value" }, shown)),
    make("td", { class: "drawn" }, drawBar(value, longest)), make("td", { class: "number" }, showSigned(value)));
}

function showExplanation(answer, row) {
  const found = answer.explanations[0];
  const byName = Object.fromEntries(model.columns.map((column) => [column.name, column]));
  const sorted = Object.entries(found.contributions).sort((one, other) => Math.abs(other[1]) - Math.abs(one[1]));
  const longest = Math.abs(sorted[0][1]);
  const rows = sorted.slice(0, MOST_SHOWN).map(([name, value]) =>
    makeContribution(nameColumn(byName[name]), row[name] === null ? " missing" : ` ${row[name]}`, value, longest));
  const others = sorted.slice(MOST_SHOWN);
  if (others.length) {
    const sum = others.reduce((total, [, value]) => total + value, 0);
    rows.push(makeContribution(others.length === 1 ? "1 other column" : `${others.length} other columns`, "", sum, longest));
  }
  const output = found.class === undefined ? model.target_meaning ?? model.target : `Probability of ${nameClass(found.class)}`;
  find("base").textContent = `${output}: ${showNumber(found.base)} on average over ${answer.background_rows} training ` +
    `rows. The columns of this row change it to ${showNumber(found.prediction)}:`;
  find("orders").textContent = `Shapley values, estimated from ${answer.orders} orders of the columns, each by one of the ` +
    `${answer.background_rows} training rows. Columns that are related share what they contribute. They say what the ` +
    "model does, not what would happen if a value really changed.";
  find("determined").textContent = (answer.determined ?? []).map((group) => {
    const sum = group.reduce((total, name) => total + found.contributions[name], 0);
    return `${group.map((name) => nameColumn(byName[name])).join(", ")} follow from each other, yet are replaced one by ` +
      `one, so some of the rows compared cannot exist: read their sum, ${showSigned(sum)}. Change them together below.`;
  }).join(" ");
  find("contributions").replaceChildren(...rows);
}

// With a canary, another version may have predicted than the one that explains.
async function explain(row, number, digest) {
  if (!model.is_explained) return;
  const body = JSON.stringify({ rows: [row] });
  try {
    const response = await fetch("/explain", { method: "POST", headers: getHeaders(), body });
    const content = await response.json();
    if (number !== latest) return;
    const isSame = response.ok && content.model.digest === digest;
    find("why").hidden = !isSame;
    if (isSame) showExplanation(content, row);
  } catch (error) {
    if (number === latest) find("why").hidden = true;
  }
}

// The step divides the agreed range into about a hundred parts; whole numbers stay whole.
function makeSlider(column, place) {
  if (column.kind !== "number" || column.low === undefined || column.high === undefined) return [];
  const span = column.high - column.low;
  if (!(span > 0)) return [];
  const isWhole = Number.isInteger(column.low) && Number.isInteger(column.high) && span >= 20;
  const step = isWhole ? Math.max(1, Math.round(span / 100)) : Number((span / 100).toPrecision(1));
  const slider = make("input", {
    type: "range", id: `slider-${place}`, min: column.low, max: column.high, step,
    "aria-label": `${nameColumn(column)}, between ${showNumber(column.low)} and ${showNumber(column.high)}`,
  });
  slider.addEventListener("input", () => { find(`field-${place}`).value = slider.value; });
  return [slider];
}

function moveSliders(row) {
  model.columns.forEach((column, place) => {
    const slider = find(`slider-${place}`);
    if (slider && typeof row[column.name] === "number") slider.value = row[column.name];
  });
}
