//! The rules of the format, and what hostile texts come to.

use serde_json::{Value as Json, json};

use crate::{Entry, Fault, Kind, Node, Part, Value, parse, parse_first, write};

fn tree(text: &str) -> Node {
    parse(text).expect(text).expect("a document")
}

fn entries(text: &str) -> Vec<Entry> {
    match tree(text).value {
        Value::Map(entries) => entries,
        other => panic!("{other:?}"),
    }
}

fn kind(text: &str) -> Kind {
    match tree(text).value {
        Value::Scalar(scalar) => scalar.kind,
        other => panic!("{other:?}"),
    }
}

fn names(text: &str) -> Vec<String> {
    let entries = entries(text);
    entries
        .iter()
        .map(|entry| entry.key.name().into())
        .collect()
}

fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn plain_scalars_mean_what_they_mean_to_kubernetes() {
    for (text, kind_of_it) in [
        ("~", Kind::Null),
        ("Null", Kind::Null),
        ("yes", Kind::Bool(true)),
        ("Off", Kind::Bool(false)),
        ("y", Kind::Bool(true)),
        ("yEs", Kind::Text),
        ("0", Kind::Unsigned(0)),
        ("0644", Kind::Unsigned(420)),
        ("0o644", Kind::Unsigned(420)),
        ("0x1F", Kind::Unsigned(31)),
        ("-0b11", Kind::Negative(-3)),
        ("1_000", Kind::Unsigned(1000)),
        ("+7", Kind::Unsigned(7)),
        ("18446744073709551615", Kind::Unsigned(u64::MAX)),
        (
            "18446744073709551616",
            Kind::Float(18_446_744_073_709_551_616.0),
        ),
        ("-9223372036854775808", Kind::Negative(i64::MIN)),
        ("09", Kind::Float(9.0)),
        ("1e3", Kind::Float(1000.0)),
        (".5", Kind::Float(0.5)),
        ("-1.", Kind::Float(-1.0)),
        ("-.inf", Kind::Float(f64::NEG_INFINITY)),
        ("1e999", Kind::Text),
        ("inf", Kind::Text),
        ("0x", Kind::Text),
        ("--1", Kind::Text),
        ("+-1", Kind::Text),
        ("0-1", Kind::Text),
        ("1.2.3", Kind::Text),
        ("1e", Kind::Text),
        (".", Kind::Text),
        ("2001-01-01", Kind::Text),
        ("é", Kind::Text),
    ] {
        assert_eq!(kind(text), kind_of_it, "{text}");
        assert_eq!(kind(&format!("\"{text}\"")), Kind::Text, "{text}");
    }
    assert!(matches!(kind(".nan"), Kind::Float(number) if number.is_nan()));
}

#[test]
fn tags_say_what_is_meant() {
    for (text, kind_of_it) in [
        ("!!str 1", Kind::Text),
        ("! 1", Kind::Text),
        ("!own 1", Kind::Text),
        ("!!int \"1\"", Kind::Unsigned(1)),
        ("!!bool \"on\"", Kind::Bool(true)),
        ("!!null ''", Kind::Null),
        ("!!timestamp 2001-01-01", Kind::Text),
    ] {
        assert_eq!(kind(text), kind_of_it, "{text}");
    }
    assert_eq!(tree("!!binary aGVs\n bG8=").value, tree("\"hello\"").value);
    for text in [
        "!!int x",
        "!!bool 1",
        "!!null x",
        "!!binary '*'",
        "!!map x",
        "!!str [a]",
        "!!float x",
    ] {
        assert!(refused(text).contains("its tag says"), "{text}");
    }
    assert!(matches!(tree("!own {a: b}").value, Value::Map(_)));
}

#[test]
fn everything_knows_its_place_and_its_text() {
    let entries = entries("# text\na: 1\n&b yes:\n  - 010\n  - {c: \"d\\n\"}\n");
    let places: Vec<u32> = entries.iter().map(|entry| entry.place.line).collect();
    assert_eq!(places, [2, 3]);
    assert_eq!(entries[1].key.text, "yes");
    let Value::List(items) = &entries[1].value.value else {
        panic!("{entries:?}");
    };
    assert_eq!((items[0].place.line, items[0].place.column), (4, 5));
    assert!(matches!(&items[0].value, Value::Scalar(scalar) if scalar.text == "010"));
    assert_eq!(items[1].place.line, 5);
}

#[test]
fn repeated_keys_are_kept_and_merged_ones_give_way() {
    assert_eq!(names("a: 1\nb: 2\na: 3\n"), ["a", "b", "a"]);
    let text = "base: &base {x: 1, y: 2}\nother: &other {y: 3, z: 4}\nout:\n  <<: [*base, *other]\n  x: 9\n";
    let Value::Map(out) = &entries(text)[2].value.value else {
        panic!("no map");
    };
    let read: Vec<_> = out
        .iter()
        .map(|entry| (entry.key.text.as_str(), &entry.value.value))
        .collect();
    let number = |text| tree(text).value;
    assert_eq!(
        read,
        [
            ("x", &number("9")),
            ("y", &number("2")),
            ("z", &number("4"))
        ]
    );
    assert_eq!(names("\"<<\": 1\n"), ["<<"]);
    assert!(refused("<<: 1\n").contains("map merge"));
}

#[test]
fn one_document_is_meant() {
    for nothing in ["", "\n# text\n", "\u{feff}"] {
        assert_eq!(parse(nothing), Ok(None), "{nothing:?}");
    }
    assert_eq!(kind("---\n"), Kind::Null);
    assert!(refused("a: 1\n---\nb: 2\n").contains("a second begins at line 2"));
    let first = parse_first("a: 1\n---\n- [\n").expect("the first alone");
    assert_eq!(first, Some(tree("a: 1\n")));
}

#[test]
fn a_block_at_the_end_of_the_text_has_the_line_break_that_it_has() {
    for (text, meant) in [("|\n  a\n", "a\n"), ("|\n  a", "a"), ("|-\n  a\n", "a")] {
        assert!(
            matches!(&tree(text).value, Value::Scalar(scalar) if scalar.text == meant),
            "{text:?}"
        );
    }
}

#[test]
fn hostile_texts_are_refused() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(",");
        bomb = format!("{bomb}a{level}: &a{level} [{aliases}]\n");
    }
    assert!(refused(&bomb).contains("more than 250000 values"));
    let large = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(20));
    assert!(refused(&large).contains("repeat more than"));
    assert!(refused("a: &a [*a]\n").contains("inside of what it repeats"));
    assert!(refused("a: *none\n").contains("unknown anchor"));
    assert!(refused("{[a]: b}").contains("a key is"));
    let deep = |open: &str, levels: usize| parse(&open.repeat(levels)).expect_err("deep").fault;
    for levels in [200, 100_000] {
        for open in ["[", "{a: ", "- ", "? "] {
            assert_eq!(deep(open, levels), Fault::TooDeep, "{open}");
        }
    }
    assert_eq!(deep("[", 1), Fault::Unclosed('['));
    assert!(parse(&format!("{}{}", "[".repeat(120), "]".repeat(120))).is_ok());
    let secret = refused("token: topsecret\n  x: [\n");
    assert!(
        !secret.contains("topsecret") && secret.contains("line 2"),
        "{secret}"
    );
}

#[test]
fn a_reader_is_told_line_and_keys() {
    let tree = tree("a:\n  b: [x, 1]\n  c: no\n  d:\n  b: y\ne: {f: maybe}\n");
    let root = Part::of(&tree);
    let a = &root.entries().expect("a map")[0].1;
    assert_eq!(
        a.entries().expect_err("twice").to_string(),
        "line 5: a.b: it is said twice; leave one out"
    );
    assert_eq!(
        a.items().expect_err("a map").to_string(),
        "line 1: a: a list is meant"
    );
    assert_eq!(
        root.text().expect_err("a map").to_string(),
        "line 1: a text is meant"
    );
    let f = &root.entries().expect("a map")[1]
        .1
        .entries()
        .expect("a map")[0]
        .1;
    assert_eq!(
        f.truth().expect_err("maybe").to_string(),
        "line 6: e.f: true or false is meant"
    );
    assert_eq!(
        f.unknown(&["g", "h"]).to_string(),
        "line 6: e.f: unknown field; there are: g, h"
    );
}

fn json_of(node: Node) -> Json {
    match node.value {
        Value::Scalar(scalar) => match scalar.kind {
            Kind::Null => Json::Null,
            Kind::Bool(truth) => truth.into(),
            Kind::Unsigned(number) => number.into(),
            Kind::Negative(number) => number.into(),
            Kind::Float(number) => number.into(),
            Kind::Text => scalar.text.into(),
        },
        Value::List(items) => items.into_iter().map(json_of).collect(),
        Value::Map(entries) => (entries.into_iter())
            .map(|entry| (entry.key.name().into_owned(), json_of(entry.value)))
            .collect(),
    }
}

#[test]
fn what_is_written_looks_as_people_know_it() {
    let object = json!({
        "a": [{"b": 1, "c": [[1, 2], []]}, "x"], "d": {}, "e": "yes", "f": "1", "g": "l1\nl2\n",
        "h": "a: b", "i": "2026-01-02T03:04:05Z", "j": "", "k": null, "l": "- x", "m": "it's: ",
        "n": "-x", "o": " lead", "p": "tab\there", "q": "l1\n l2", "0": "*"
    });
    let text = write(&object);
    assert_eq!(
        text,
        "\"0\": '*'\na:\n- b: 1\n  c:\n  - - 1\n    - 2\n  - []\n- x\nd: {}\ne: \"yes\"\nf: \"1\"\n\
         g: |\n  l1\n  l2\nh: 'a: b'\ni: \"2026-01-02T03:04:05Z\"\nj: \"\"\nk: null\nl: '- x'\n\
         m: 'it''s: '\n\"n\": -x\no: ' lead'\np: \"tab\\there\"\nq: |-\n  l1\n   l2\n"
    );
    assert_eq!(json_of(tree(&text)), object);
}

#[test]
fn every_text_reads_back_as_it_was_written() {
    let long = "k".repeat(3000);
    let texts = [
        "",
        " ",
        "a ",
        "\n",
        "a\n",
        "a\n\n",
        "\na",
        "a\n b\n",
        " a\nb",
        "\ta\nb",
        "a\n\tb",
        "a \nb",
        "a\r\nb",
        "0644",
        "0o17",
        "1_000",
        "0X1F",
        "-0b1",
        "1e3",
        ".5",
        "1e999",
        ".INF",
        "12:30:45",
        "~",
        "NULL",
        "Off",
        "yEs",
        "<<",
        "=",
        "-",
        "--- a",
        "---",
        "...",
        "... a",
        "?",
        "? a",
        ":",
        ":a",
        "a:",
        "a: b",
        "a #b",
        "a#b",
        "#a",
        "@a",
        "`a",
        "%a",
        "!a",
        "&a",
        "*a",
        "'a'",
        "\"a\"",
        "\\n",
        "{a",
        "[a]",
        "a, b",
        "\u{85}",
        "a\u{2028}b",
        "\u{feff}a",
        "\u{7}",
        "é\u{1f600}",
        "|",
        ">",
        "{\"a\": [1]}",
        "a\n---\nb\n",
        "a\n# b",
        &long,
    ];
    for text in texts {
        for value in [
            json!(text),
            json!([text, {"a": text}]),
            json!({text: {"a": [text]}, "b": {"c": {text: text, "d": {text: [[text]]}}}}),
        ] {
            let written = write(&value);
            let read = parse(&written).unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(read.map(json_of), Some(value), "{written:?}");
        }
    }
}
