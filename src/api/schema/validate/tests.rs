use super::*;
use serde_json::json;

fn schema(value: &Value) -> Structural {
    Structural::from_json(value).unwrap()
}

fn texts(value: &Value, keywords: &Value) -> Vec<String> {
    let whole = json!({"type": "object", "properties": {"spec": keywords}});
    validate(&json!({"spec": value}), &schema(&whole))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn each_keyword_is_told_in_upstreams_words() {
    for (value, keywords, expected) in [
        (
            json!("a"),
            json!({"type": "integer"}),
            "spec: Invalid value: \"string\": spec in body must be of type integer: \"string\"",
        ),
        (
            json!({}),
            json!({"type": "object", "required": ["a"]}),
            "spec.a: Required value",
        ),
        (
            json!("b"),
            json!({"type": "string", "enum": ["a", "c"]}),
            "spec: Unsupported value: \"b\": supported values: \"a\", \"c\"",
        ),
        (
            json!("abc"),
            json!({"type": "string", "maxLength": 2}),
            "spec: Too long: may not be more than 2 bytes",
        ),
        (
            json!("a"),
            json!({"type": "string", "minLength": 2}),
            "spec: Invalid value: \"a\": spec in body should be at least 2 chars long",
        ),
        (
            json!("b"),
            json!({"type": "string", "pattern": "^a$"}),
            "spec: Invalid value: \"b\": spec in body should match '^a$'",
        ),
        (
            json!(5),
            json!({"type": "integer", "maximum": 4}),
            "spec: Invalid value: 5: spec in body should be less than or equal to 4",
        ),
        (
            json!(0),
            json!({"type": "integer", "minimum": 0, "exclusiveMinimum": true}),
            "spec: Invalid value: 0: spec in body should be greater than 0",
        ),
        (
            json!([1, 2]),
            json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1}),
            "spec: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"a": 1}),
            json!({"type": "object", "minProperties": 2}),
            "spec: Invalid value: 1: spec in body should have at least 2 properties",
        ),
        (
            json!(true),
            json!({"x-kubernetes-int-or-string": true}),
            "spec: Invalid value: \"boolean\": spec in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!(3_000_000_000_i64),
            json!({"type": "integer", "format": "int32"}),
            "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec",
        ),
        (
            json!("x"),
            json!({"type": "string", "format": "ipv4"}),
            "spec: Invalid value: \"x\": spec in body must be of type ipv4: \"x\"",
        ),
        (
            json!(["a", "a"]),
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            "spec: Invalid value: \"\": spec in body shouldn't contain duplicates",
        ),
    ] {
        assert_eq!(texts(&value, &keywords), [expected]);
    }
}

#[test]
fn alternatives_tell_the_rule_and_the_closest_miss() {
    let keywords = json!({"type": "object", "properties": {"a": {}, "b": {}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(
        texts(&json!({}), &keywords),
        [
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). \
             Found none valid",
            "spec.a: Required value"
        ]
    );
    assert_eq!(
        texts(&json!({"a": 1, "b": 1}), &keywords),
        [
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). \
          Found 2 valid alternatives"
        ]
    );
    let keywords = json!({"type": "string", "not": {"enum": ["x"]}});
    assert_eq!(
        texts(&json!("x"), &keywords),
        ["<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)"]
    );
}

#[test]
fn null_is_a_value_only_where_it_is_allowed() {
    assert_eq!(
        texts(&json!(null), &json!({"type": "string", "nullable": true})),
        [""; 0]
    );
    assert_eq!(
        texts(&json!(null), &json!({"type": "string"})),
        ["spec: Invalid value: \"null\": spec in body must be of type string: \"null\""]
    );
}

#[test]
fn an_update_is_not_blamed_for_what_it_leaves_alone() {
    let schema = schema(&json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1}}}));
    let old = json!({"a": "long", "b": "x"});
    let new = json!({"a": "long", "b": "longer"});
    let errors = validate_update(&new, Some(&old), &schema);
    assert_eq!(errors.summary(), "b: Too long: may not be more than 1 byte");
}

#[test]
fn sets_and_maps_hold_an_element_once() {
    let schema = schema(&json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}));
    let value = json!({"set": ["a", "b", "a", "a"], "map": [{"k": "x"}, {"k": "x", "v": 1}]});
    let errors = validate_list_types(&value, &schema);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "map[1]: Duplicate value: {\"k\":\"x\"}",
            "set[2]: Duplicate value: \"a\""
        ]
    );
}
