//! What a client wants of a log: `PodLogOptions` as query parameters.

use std::time::Duration;

use env::Timestamp;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StreamSelection {
    #[default]
    All,
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    /// The container that ran before.
    pub(crate) previous: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) stream: StreamSelection,
}

impl LogOptions {
    /// The error is for the client: its request is bad.
    pub(crate) fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in query {
            let invalid =
                |why: &str| format!("invalid log option {name}: Invalid value: {value:?}: {why}");
            let number = || {
                value
                    .parse::<i64>()
                    .map_err(|_| invalid("must be a number"))
            };
            match name.as_str() {
                "follow" => options.follow = flag(value),
                "previous" => options.previous = flag(value),
                "timestamps" => options.timestamps = flag(value),
                "sinceSeconds" => {
                    let seconds = u64::try_from(number()?).ok().filter(|seconds| *seconds > 0);
                    let seconds = seconds.ok_or_else(|| invalid("must be greater than 0"))?;
                    options.since = Some(now.saturating_sub(Duration::from_secs(seconds)));
                }
                "sinceTime" => {
                    options.since = Some(
                        Timestamp::parse(value)
                            .ok_or_else(|| invalid("must be a RFC 3339 time"))?,
                    );
                }
                "tailLines" => {
                    options.tail_lines = Some(
                        u64::try_from(number()?)
                            .map_err(|_| invalid("must be greater than or equal to 0"))?,
                    );
                }
                "limitBytes" => {
                    let bytes = u64::try_from(number()?).ok().filter(|bytes| *bytes > 0);
                    options.limit_bytes =
                        Some(bytes.ok_or_else(|| invalid("must be greater than 0"))?);
                }
                "stream" => {
                    options.stream = match value.as_str() {
                        "" | "All" => StreamSelection::All,
                        "Stdout" => StreamSelection::Stdout,
                        "Stderr" => StreamSelection::Stderr,
                        _ => {
                            return Err(invalid(
                                "supported values: \"All\", \"Stderr\", \"Stdout\"",
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        if options.stream != StreamSelection::All && options.tail_lines.is_some() {
            return Err(
                "`tailLines` and specific `stream` are mutually exclusive for now".to_owned(),
            );
        }
        Ok(options)
    }
}

fn flag(value: &str) -> bool {
    matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True")
}
