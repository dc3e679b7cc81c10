"""Encodings are found by the words that come out; where two give the same words, it does not matter which is named."""

import pytest
from labkit.data.reading.encoding import guess_encoding

WORDS = {
    "French": "Orléans;Besançon;Nîmes;Cœur;hôpital;élève;Noël;où;forêt;garçon;Évreux;naïf;œuvre;déjà vu",
    "German": "Köln;Düsseldorf;Gänseweg;Straße;Größe;Österreich;Übung;gekündigt",
    "Spanish": "Málaga;España;Cádiz;Ñuñoa;pingüino;corazón;mañana",
    "Portuguese": "São Paulo;coração;Brasília;informação;português;órgão;três",
    "Danish": "Ørsted;Århus;København;Æbleskiver;smørrebrød;Ålborg",
    "Italian": "perché;città;più;così;Università",
    "spaces": "level of\u00a0knowledge;Are you\u00a0older than 60?;yes\u00a0or no",
    "quotes": "don\u2019t know;\u201cyes\u201d;5 \u2013 10",
    "capitals": "CAFÉ;MÜNCHEN;ESPAÑA",
    "euros": "5 €;20 €;about 7 €",
    "Icelandic": "Þór;Reykjavík;Akureyri;Ísafjörður;Seyðisfjörður;Guðrún",
    "Polish": "Łódź;Gdańsk;Kraków;Poznań;Wrocław;Częstochowa;źródło;Żywiec",
    "Czech": "Plzeň;Příbram;Třebíč;žluťoučký kůň;Český;Šumperk;Ústí",
    "Hungarian": "Győr;Pécs;Székesfehérvár;Kecskemét;erdő;hűtő;Őriszentpéter;Üllő",
    "Romanian": "Iaşi;Braşov;Constanţa;Târgu Mureş;Bistriţa;Călăraşi;înţelept",
    "Turkish": "İstanbul;Şişli;Beşiktaş;Kadıköy;Üsküdar;Çanakkale;Eskişehir;ağaç;ığdır",
    "Lithuanian": "Šiauliai;Klaipėda;Panevėžys;Kėdainiai;Ąžuolas;Žalgiris;įmonė;ūkis",
    "Latvian": "Rīga;Jūrmala;Ogre;Cēsis;Ķekava;Liepāja;ģimene;šķirne",
    "Russian": "Москва;Тула;Омск;Санкт-Петербург;Нижний Новгород;Екатеринбург",
    "Greek": "Αθήνα;Θεσσαλονίκη;Πάτρα;Ηράκλειο;Λάρισα",
    "Hebrew": "ירושלים;תל אביב;חיפה;באר שבע",
    "Japanese": "東京;大阪;名古屋;札幌;神戸;京都;こんにちは",
    "Chinese": "北京;上海;广州;深圳;天津;重庆",
    "Korean": "서울;부산;대구;인천;광주;대전",
}
WESTERN = ("cp1252", "mac_roman", "cp850")
ENCODINGS = {
    **dict.fromkeys(("French", "German", "Spanish", "Portuguese", "Danish", "Italian", "spaces", "quotes", "capitals"), WESTERN),
    "euros": ("cp1252", "mac_roman"), "Icelandic": ("cp1252",), "Polish": ("cp1250",), "Czech": ("cp1250",),
    "Hungarian": ("cp1250",), "Romanian": ("cp1250",), "Turkish": ("cp1254",), "Lithuanian": ("cp1257",),
    "Latvian": ("cp1257",), "Russian": ("cp1251", "koi8_r", "cp866"), "Greek": ("cp1253",), "Hebrew": ("cp1255",),
    "Japanese": ("cp932", "euc_jp"), "Chinese": ("gb18030",), "Korean": ("euc_kr",),
}  # fmt: skip
CASES = [(language, encoding) for language, encodings in ENCODINGS.items() for encoding in encodings]


def can_hold(string: str, encoding: str) -> bool:
    try:
        string.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize(("language", "encoding"), [case for case in CASES if can_hold(WORDS[case[0]], case[1])])
def test_encoding_is_the_one_whose_letters_make_words(language: str, encoding: str) -> None:
    words = WORDS[language].split(";")
    string = "id,name,colour\n" + "".join(f"{n},{words[n % len(words)]},red\n" for n in range(4 * len(words)))
    found = guess_encoding(string.encode(encoding))
    assert found is not None
    assert string.encode(encoding).decode(found) == string


@pytest.mark.parametrize("data", [bytes(range(1, 32)) * 10, b"a\0\0\0" * 9])
def test_binary_content_has_no_encoding(data: bytes) -> None:
    assert guess_encoding(data) is None
