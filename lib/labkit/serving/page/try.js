"use strict";
// The form follows from what /model says of the columns; nothing is loaded from elsewhere.
const find = (id) => document.getElementById(id);
let model = null;
let latest = 0;

function getHeaders() {
  const token = find("token").value;
  return { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) };
}

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function readField(column, place) {
  const text = find(`field-${place}`).value;
  if (text === "") return null;
  if (column.kind === "boolean") return text === "true";
  if (column.kind === "number" && text.trim() !== "" && Number.isFinite(Number(text))) return Number(text);
  return text;
}

function readRow() {
  return Object.fromEntries(model.columns.map((column, place) => [column.name, readField(column, place)]));
}

function fill(row) {
  model.columns.forEach((column, place) => {
    const value = row[column.name];
    find(`field-${place}`).value = value === null || value === undefined ? "" : String(value);
  });
}

function makeField(column, place) {
  const attributes = { id: `field-${place}`, name: column.name };
  const needed = column.may_be_missing ? "" : " (needed)";
  const label = make("label", { for: attributes.id }, `${nameColumn(column)}${needed}`);
  if (column.kind === "boolean") {
    const options = ["", "true", "false"].map((value) => make("option", { value }, value));
    return make("div", {}, label, make("select", attributes, ...options));
  }
  const mode = column.kind === "number" ? { inputmode: "decimal" } : {};
  const field = make("input", { ...attributes, ...mode, autocomplete: "off" });
  return make("div", {}, label, field, ...makeSlider(column, place));
}

function showNumber(value) {
  return Number(value).toLocaleString("en", { maximumSignificantDigits: 4 });
}

function showAnswer(answer) {
  const parts = [make("strong", {}, typeof answer.predictions[0] === "number" && !answer.probabilities
    ? showNumber(answer.predictions[0]) : nameClass(answer.predictions[0]))];
  parts.push(make("div", {}, `${model.target_meaning ?? model.target}, predicted by version ${answer.model.version ?? "of a folder"}`));
  for (const [name, value] of Object.entries(answer.probabilities ? answer.probabilities[0] : {})) {
    const meter = make("meter", { min: 0, max: 1, value, "aria-label": `probability of ${nameClass(name)}` });
    parts.push(make("div", { class: "bar" }, make("span", {}, nameClass(name)), meter, make("span", {}, showNumber(value))));
  }
  if (answer.threshold !== undefined) {
    parts.push(make("div", {}, `${nameClass(model.positive)} is predicted from a probability of ${showNumber(answer.threshold)} on`));
  }
  find("result").replaceChildren(...parts);
}

function showFaults(refusal) {
  const faults = refusal.faults ?? [{ message: refusal.error }];
  find("result").replaceChildren(make("ul", {}, ...faults.map((fault) => make("li", {}, fault.message))));
  for (const [place, column] of model.columns.entries()) {
    if (faults.some((fault) => fault.column === column.name)) find(`field-${place}`).setAttribute("aria-invalid", "true");
  }
}

async function predict() {
  const number = ++latest;
  for (const field of find("row").querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  const row = readRow();
  moveSliders(row);
  const body = JSON.stringify({ rows: [row] }, null, 1);
  find("request").textContent = `POST ${location.origin}/predict\ncontent-type: application/json\n\n${body}`;
  try {
    const response = await fetch("/predict", { method: "POST", headers: getHeaders(), body });
    const content = await response.json();
    if (number !== latest) return;
    find("why").hidden = find("why").hidden || !response.ok;
    if (!response.ok) showFaults(content);
    else {
      showAnswer(content);
      await explain(row, number, content.model.digest);
    }
  } catch (error) {
    if (number === latest) find("result").replaceChildren("The service does not answer.");
  }
}

async function start() {
  const response = await fetch("/model", { headers: getHeaders() });
  if (response.status === 401) {
    find("token").hidden = find("token-label").hidden = false;
    find("result").replaceChildren("This service asks for a token.");
    return;
  }
  model = await response.json();
  find("title").textContent = `${model.experiment}: try the model`;
  find("question").textContent = model.question ?? "";
  find("model").textContent = `${model.estimator}, version ${model.version ?? "of a folder"}, predicts ${model.target}.`;
  document.title = find("title").textContent;
  find("row").replaceChildren(...model.columns.map(makeField));
  find("example").replaceChildren(...model.example.map((_, place) => make("option", { value: place }, String(place + 1))));
  fill(model.example[0]);
  await predict();
}

find("row").addEventListener("input", predict);
find("row").addEventListener("submit", (event) => event.preventDefault());
find("example").addEventListener("change", () => { fill(model.example[Number(find("example").value)]); predict(); });
find("token").addEventListener("change", start);
start();
