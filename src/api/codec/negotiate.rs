//! Which encoding a client speaks and wants, by the rules of upstream's negotiation.

use std::cmp::Reverse;

use apimachinery::ApiError;

use crate::splice::MetaVersion;

/// A way to write objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn from_media_type(text: &str) -> Option<Self> {
        [Self::Json, Self::Yaml, Self::Protobuf]
            .into_iter()
            .find(|encoding| encoding.media_type() == text)
    }

    /// The `Content-Type` of a watch.
    pub fn watch_media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// What built-in resources speak.
pub const BUILT_IN_ENCODINGS: &[Encoding] = &[Encoding::Json, Encoding::Yaml, Encoding::Protobuf];

/// What custom resources speak.
pub const CUSTOM_ENCODINGS: &[Encoding] = &[Encoding::Json, Encoding::Yaml];

/// What the answer is to be turned into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Transform {
    /// The object or list itself.
    #[default]
    None,
    Table(MetaVersion),
    PartialObjectMetadata(MetaVersion),
    PartialObjectMetadataList(MetaVersion),
    /// `as=APIGroupDiscoveryList`, in this version of `apidiscovery.k8s.io`.
    AggregatedDiscovery(DiscoveryVersion),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscoveryVersion {
    V2,
    V2Beta1,
}

impl DiscoveryVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// What an endpoint can do beyond plain answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offers {
    /// Plain objects only: virtual resources and subresources.
    Objects,
    /// Stored resources: tables and partial metadata too.
    TablesAndMetadata,
    /// `/api` and `/apis`.
    Discovery,
}

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub encoding: Encoding,
    pub transform: Transform,
    /// Whether JSON is to be indented.
    pub is_pretty: bool,
}

impl Negotiated {
    /// The `Content-Type` of the answer; aggregated discovery repeats what it was asked as.
    pub fn content_type(&self) -> String {
        let base = self.encoding.media_type();
        match &self.transform {
            Transform::AggregatedDiscovery(version) => format!(
                "{base};g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList",
                version.as_str()
            ),
            _ => base.to_owned(),
        }
    }
}

/// Picks the encoding of an answer from an `Accept` header; an absent or empty header means the first encoding.
/// Refuses with 406 when nothing offered is accepted.
pub fn negotiate(
    accept: &str,
    encodings: &[Encoding],
    offers: Offers,
) -> Result<Negotiated, ApiError> {
    if accept.is_empty() {
        return Ok(Negotiated {
            encoding: encodings[0],
            transform: Transform::None,
            is_pretty: false,
        });
    }
    clauses(accept)
        .iter()
        .flat_map(|clause| encodings.iter().map(move |encoding| (clause, *encoding)))
        .filter(|(clause, encoding)| clause.matches(*encoding))
        .find_map(|(clause, encoding)| clause.agree(encoding, offers))
        .ok_or_else(|| {
            ApiError::not_acceptable(format!(
                "only the following media types are accepted: {}",
                // Upstream tells this of custom kinds too, whose metadata can be had as protobuf.
                list(
                    if encodings == CUSTOM_ENCODINGS {
                        BUILT_IN_ENCODINGS
                    } else {
                        encodings
                    },
                    ""
                )
            ))
        })
}

/// As [`negotiate`], for a watch; YAML has no stream.
pub fn negotiate_watch(
    accept: &str,
    encodings: &[Encoding],
    offers: Offers,
) -> Result<Negotiated, ApiError> {
    negotiate(accept, encodings, offers)
        .ok()
        .filter(|agreed| agreed.encoding != Encoding::Yaml)
        .ok_or_else(|| {
            let streams: Vec<Encoding> = encodings
                .iter()
                .copied()
                .filter(|encoding| *encoding != Encoding::Yaml)
                .collect();
            ApiError::not_acceptable(format!(
                "only the following media types are accepted: {}",
                list(&streams, ";stream=watch")
            ))
        })
}

/// Reads the `Content-Type` of a body; none means the first encoding. Refuses with 415 what is not spoken.
pub fn body_encoding(content_type: &str, encodings: &[Encoding]) -> Result<Encoding, ApiError> {
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if media_type.is_empty() {
        return Ok(encodings[0]);
    }
    Encoding::from_media_type(&media_type)
        .filter(|encoding| encodings.contains(encoding))
        .ok_or_else(|| {
            ApiError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                list(encodings, "")
            ))
        })
}

fn list(encodings: &[Encoding], suffix: &str) -> String {
    let types: Vec<String> = encodings
        .iter()
        .map(|encoding| format!("{}{suffix}", encoding.media_type()))
        .collect();
    types.join(", ")
}

/// One alternative of an `Accept` header.
struct Clause<'a> {
    main_type: &'a str,
    subtype: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The alternatives, the most wanted first: by quality, then the more exact before the wildcard.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(clause).collect();
    clauses.sort_by_key(|clause| {
        let wildcard = (clause.main_type == "*", clause.subtype == "*");
        #[allow(clippy::cast_possible_truncation)] // Qualities have three decimals.
        (Reverse((clause.quality * 1000.0) as i64), wildcard)
    });
    clauses
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut parts = text.split(';');
    let media_type = parts.next()?.trim();
    let (main_type, subtype) = match media_type.split_once('/') {
        Some((main_type, subtype)) if !subtype.contains('/') => (main_type.trim(), subtype.trim()),
        None if media_type == "*" => ("*", "*"),
        _ => return None,
    };
    let mut clause = Clause {
        main_type,
        subtype,
        quality: 1.0,
        parameters: Vec::new(),
    };
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let (name, value) = (name.trim(), value.trim());
        if name == "q" {
            clause.quality = value.parse().unwrap_or(0.0);
        } else {
            clause.parameters.push((name, value));
        }
    }
    Some(clause)
}

impl Clause<'_> {
    fn matches(&self, encoding: Encoding) -> bool {
        let (main_type, subtype) = encoding
            .media_type()
            .split_once('/')
            .expect("media types have two parts");
        (self.main_type == main_type && (self.subtype == subtype || self.subtype == "*"))
            || (self.main_type == "*" && self.subtype == "*")
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters
            .iter()
            .rev()
            .find(|(found, _)| *found == name)
            .map_or("", |(_, value)| *value)
    }

    fn agree(&self, encoding: Encoding, offers: Offers) -> Option<Negotiated> {
        let stream = self.parameter("stream");
        if !(stream.is_empty() || stream == "watch") || !self.parameter("sv").is_empty() {
            return None;
        }
        let transform = self.transform(encoding, offers)?;
        Some(Negotiated {
            encoding,
            transform,
            is_pretty: self.parameter("pretty") == "1",
        })
    }

    fn transform(&self, encoding: Encoding, offers: Offers) -> Option<Transform> {
        let wanted = (
            self.parameter("g"),
            self.parameter("v"),
            self.parameter("as"),
        );
        if wanted == ("", "", "") {
            return Some(Transform::None);
        }
        let (group, version, kind) = wanted;
        match (offers, group) {
            (Offers::Discovery, "apidiscovery.k8s.io") if kind == "APIGroupDiscoveryList" => {
                let version = match version {
                    "v2" => DiscoveryVersion::V2,
                    "v2beta1" => DiscoveryVersion::V2Beta1,
                    _ => return None,
                };
                Some(Transform::AggregatedDiscovery(version))
            }
            (Offers::TablesAndMetadata, "meta.k8s.io") => {
                let version = match version {
                    "v1" => MetaVersion::V1,
                    "v1beta1" => MetaVersion::V1Beta1,
                    _ => return None,
                };
                match kind {
                    // A table's cells are any JSON, which protobuf cannot carry.
                    "Table" if encoding != Encoding::Protobuf => Some(Transform::Table(version)),
                    "PartialObjectMetadata" => Some(Transform::PartialObjectMetadata(version)),
                    "PartialObjectMetadataList" => {
                        Some(Transform::PartialObjectMetadataList(version))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(accept: &str, offers: Offers) -> Result<Negotiated, ApiError> {
        negotiate(accept, BUILT_IN_ENCODINGS, offers)
    }

    #[test]
    fn kubectl_gets_a_table_where_there_is_one_and_objects_elsewhere() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                      application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let table = agreed(accept, Offers::TablesAndMetadata).unwrap();
        assert_eq!(table.transform, Transform::Table(MetaVersion::V1));
        assert_eq!(
            agreed(accept, Offers::Objects).unwrap().transform,
            Transform::None
        );
    }

    #[test]
    fn a_table_alone_of_a_virtual_resource_is_not_acceptable() {
        let refused = agreed(
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            Offers::Objects,
        )
        .unwrap_err();
        assert_eq!(refused.code, 406);
        assert_eq!(
            refused.message,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
    }

    #[test]
    fn quality_and_exactness_order_the_alternatives() {
        let protobuf = "application/vnd.kubernetes.protobuf";
        assert_eq!(
            agreed(&format!("*/*,{protobuf}"), Offers::Objects)
                .unwrap()
                .encoding,
            Encoding::Protobuf
        );
        assert_eq!(
            agreed(
                "application/yaml;q=0.5,application/json;q=0.9",
                Offers::Objects
            )
            .unwrap()
            .encoding,
            Encoding::Json
        );
        assert_eq!(
            negotiate(
                &format!("{protobuf},*/*"),
                CUSTOM_ENCODINGS,
                Offers::Objects
            )
            .unwrap()
            .encoding,
            Encoding::Json
        );
    }

    #[test]
    fn a_watch_streams_json_or_protobuf() {
        let watch = |accept| negotiate_watch(accept, BUILT_IN_ENCODINGS, Offers::Objects);
        let protobuf = watch("application/vnd.kubernetes.protobuf;stream=watch,*/*").unwrap();
        assert_eq!(protobuf.encoding, Encoding::Protobuf);
        assert_eq!(
            watch("application/yaml").unwrap_err().message,
            "only the following media types are accepted: application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
    }

    #[test]
    fn a_table_is_never_protobuf() {
        let accept = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,\
                      application/json;as=Table;v=v1;g=meta.k8s.io";
        let table = agreed(accept, Offers::TablesAndMetadata).unwrap();
        assert_eq!(table.encoding, Encoding::Json);
    }

    #[test]
    fn aggregated_discovery_answers_with_what_it_was_asked_as() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                      application/json";
        let discovery = agreed(accept, Offers::Discovery).unwrap();
        assert_eq!(
            discovery.content_type(),
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
    }

    #[test]
    fn a_body_in_another_format_is_unsupported() {
        assert_eq!(
            body_encoding("application/json; charset=utf-8", CUSTOM_ENCODINGS),
            Ok(Encoding::Json)
        );
        assert_eq!(body_encoding("", CUSTOM_ENCODINGS), Ok(Encoding::Json));
        let refused = body_encoding("application/cbor", BUILT_IN_ENCODINGS).unwrap_err();
        assert_eq!(refused.code, 415);
    }
}
