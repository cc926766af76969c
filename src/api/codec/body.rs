//! A request's body: read once, asked what kind it is, then decoded by that kind's schema.

use std::fmt::Write as _;

use apimachinery::ApiError;
use schema::{Decoded, Document, Node};

use crate::negotiate::Encoding;
use crate::protobuf::Envelope;
use crate::yaml::parse_yaml;

/// A body whose outside has been read.
#[derive(Debug)]
pub struct Body<'a> {
    form: Form<'a>,
    /// What a strict reader of YAML objects to.
    yaml_error: Option<String>,
}

#[derive(Debug)]
enum Form<'a> {
    Document(Document<'a>),
    Protobuf(Envelope<'a>),
}

impl<'a> Body<'a> {
    /// Reads the outside of a body; refuses what is too large, too deep or malformed.
    pub fn read(encoding: Encoding, bytes: &'a [u8]) -> Result<Self, BodyError> {
        if bytes.len() > schema::BODY_SIZE_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        let (form, yaml_error) = match encoding {
            Encoding::Json => {
                let document = Document::parse(bytes)
                    .map_err(|error| error.to_string())
                    .and_then(|document| check_type_meta(&document).map(|()| document))
                    .map_err(|error| {
                        let text = format!("couldn't get version/kind; json parse error: {error}");
                        malformed(text, bytes)
                    })?;
                (Form::Document(document), None)
            }
            Encoding::Yaml => {
                let yaml = parse_yaml(bytes).map_err(|error| malformed(error, bytes))?;
                check_type_meta(&yaml.document).map_err(|error| malformed(error, bytes))?;
                let strict = yaml.strict_error();
                (Form::Document(yaml.document), strict)
            }
            Encoding::Protobuf => {
                let envelope = Envelope::open(bytes).map_err(|error| malformed(error, bytes))?;
                (Form::Protobuf(envelope), None)
            }
        };
        Ok(Self { form, yaml_error })
    }

    /// `apiVersion` as the client wrote it; "" where it is missing.
    pub fn api_version(&self) -> &str {
        match &self.form {
            Form::Document(document) => text(document, "apiVersion"),
            Form::Protobuf(envelope) => envelope.api_version,
        }
    }

    /// `kind` as the client wrote it; "" where it is missing.
    pub fn kind(&self) -> &str {
        match &self.form {
            Form::Document(document) => text(document, "kind"),
            Form::Protobuf(envelope) => envelope.kind,
        }
    }

    /// Decodes the body by a schema. Custom resources have no protobuf.
    pub fn decode(self, node: Node<'_>) -> Result<Decoded, BodyError> {
        let mut decoded = match self.form {
            Form::Document(document) => schema::decode_document(document, node)
                .map_err(|error| BodyError::WrongType(error.to_string()))?,
            Form::Protobuf(envelope) => {
                let Some(type_ref) = node.type_ref() else {
                    let text = "custom resources cannot be sent as protobuf".to_owned();
                    return Err(BodyError::WrongType(text));
                };
                let tree = envelope
                    .decode(type_ref)
                    .map_err(|error| BodyError::WrongType(error.to_string()))?;
                Decoded {
                    tree,
                    strict_errors: Vec::new(),
                }
            }
        };
        if let Some(error) = self.yaml_error {
            // The reader of YAML has told of the repeated keys, and what it hands on has none.
            decoded
                .strict_errors
                .retain(|error| !error.starts_with("duplicate field"));
            decoded.strict_errors.insert(0, error);
        }
        Ok(decoded)
    }
}

fn text<'b>(document: &'b Document<'_>, key: &str) -> &'b str {
    document
        .get(key)
        .and_then(Document::as_str)
        .unwrap_or_default()
}

fn malformed(error: impl std::fmt::Display, bytes: &[u8]) -> BodyError {
    BodyError::Malformed {
        error: error.to_string(),
        summary: summary(bytes),
    }
}

/// Kind and version are read first, and have to be texts.
fn check_type_meta(document: &Document<'_>) -> Result<(), String> {
    let sort = match document {
        Document::Object(_) | Document::Null => "",
        Document::Array(_) => "array",
        Document::String(_) => "string",
        Document::Bool(_) => "bool",
        Document::Number(_) => "number",
    };
    if !sort.is_empty() {
        return Err(format!(
            "json: cannot unmarshal {sort} into Go value of type struct {{ APIVersion string \
             \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        ));
    }
    for key in ["apiVersion", "kind"] {
        let sort = match document.get(key) {
            None | Some(Document::Null | Document::String(_)) => continue,
            Some(Document::Bool(_)) => "bool",
            Some(Document::Number(_)) => "number",
            Some(Document::Array(_)) => "array",
            Some(Document::Object(_)) => "object",
        };
        return Err(format!(
            "json: cannot unmarshal {sort} into Go struct field .{key} of type string"
        ));
    }
    Ok(())
}

/// How much of a malformed body is told back, in bytes.
const SUMMARY_BYTES_MAX: usize = 30;

fn summary(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    let shown = &bytes[..bytes.len().min(SUMMARY_BYTES_MAX)];
    let more = if bytes.len() > SUMMARY_BYTES_MAX {
        " ..."
    } else {
        ""
    };
    if bytes[0] == b'{' {
        return format!("{}{more}", String::from_utf8_lossy(shown));
    }
    let mut text = String::with_capacity(shown.len() * 2 + more.len());
    for byte in shown {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text + more
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("limit is {}", schema::BODY_SIZE_BYTES_MAX)]
    TooLarge,
    /// Neither kind nor version could be read.
    #[error("{error}")]
    Malformed { error: String, summary: String },
    /// The kind is known, but a value does not fit it.
    #[error("{0}")]
    WrongType(String),
}

impl BodyError {
    /// The answer to the client; `version` and `kind` are those the request is for.
    pub fn to_api_error(&self, version: &str, kind: &str) -> ApiError {
        match self {
            Self::TooLarge => ApiError::too_large(self.to_string()),
            Self::Malformed { error, summary } => ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {error} ({summary})"
            )),
            Self::WrongType(text) => ApiError::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {text}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Node<'static> {
        Node::Type(schema::built_in("apps", "v1", "Deployment").unwrap())
    }

    #[test]
    fn a_body_says_its_kind_before_it_is_decoded() {
        let text = br#"{"kind":"Deployment","apiVersion":"apps/v1","spec":{"replicas":2}}"#;
        let body = Body::read(Encoding::Json, text).unwrap();
        assert_eq!((body.api_version(), body.kind()), ("apps/v1", "Deployment"));
        assert_eq!(
            body.decode(deployment()).unwrap().tree["spec"],
            json!({"replicas": 2})
        );
    }

    #[test]
    fn all_three_encodings_mean_the_same_object() {
        let json =
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"v"}}"#;
        let yaml = b"kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {k: v}\n";
        let type_ref = schema::built_in("", "v1", "ConfigMap").unwrap();
        let protobuf = crate::protobuf::encode(json, type_ref, "v1", "ConfigMap").unwrap();
        let read = |encoding, bytes: &[u8]| {
            let body = Body::read(encoding, bytes).unwrap();
            body.decode(Node::Type(type_ref)).unwrap().tree
        };
        let expected = read(Encoding::Json, json);
        assert_eq!(read(Encoding::Yaml, yaml), expected);
        assert_eq!(read(Encoding::Protobuf, &protobuf), expected);
    }

    #[test]
    fn refusals_have_upstreams_words() {
        let error = |encoding, bytes: &'static [u8]| {
            Body::read(encoding, bytes)
                .and_then(|body| body.decode(deployment()))
                .unwrap_err()
                .to_api_error("v1", "Deployment")
                .message
        };
        assert_eq!(
            error(Encoding::Json, b"{"),
            "the object provided is unrecognized (must be of type Deployment): couldn't get \
             version/kind; json parse error: unexpected end of JSON input ({)"
        );
        assert_eq!(
            error(Encoding::Json, br#"{"spec":{"replicas":"1"}}"#),
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot \
             unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
    }

    #[test]
    fn repeated_yaml_keys_are_strict_errors() {
        let yaml = b"kind: Deployment\napiVersion: apps/v1\nspec:\n  replicas: 1\n  replicas: 2\n";
        let decoded = Body::read(Encoding::Yaml, yaml)
            .unwrap()
            .decode(deployment())
            .unwrap();
        assert_eq!(
            decoded.strict_errors,
            ["yaml: unmarshal errors:\n  line 5: key \"replicas\" already set in map"]
        );
    }
}
