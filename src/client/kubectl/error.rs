//! Failures in the words in which kubectl tells them.

use apimachinery::{ApiError, Reason};
use kube_client::ClientError;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed. Its text is what stands on standard error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", client_text(.0))]
    Client(#[from] ClientError),
    /// The server refused what was read from a file or an argument.
    #[error("{}", source_text(.origin, .source))]
    Source { origin: String, source: ClientError },
    /// What was asked for cannot be done, or is not as asked for.
    #[error("error: {0}")]
    Usage(String),
    /// A text that carries its own beginning.
    #[error("{0}")]
    Plain(String),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Error>),
    /// The command in the container failed.
    #[error("command terminated with exit code {0}")]
    Command(u8),
    /// Everything was said already.
    #[error("")]
    Exit(u8),
    /// Whoever read the output is gone.
    #[error("error: write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// What is wrong with the kubeconfig, with its causes.
    pub(crate) fn kubeconfig(error: kube_client::KubeconfigError) -> Self {
        let source = std::error::Error::source(&error);
        let cause = source.map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Usage(format!("{error}{cause}"))
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exit(code) | Self::Command(code) => *code,
            _ => 1,
        }
    }

    /// One error of many; of one that one.
    pub(crate) fn all(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Client(error.into())
    }
}

fn client_text(error: &ClientError) -> String {
    match error {
        ClientError::Api(error) => api_text(error),
        ClientError::Unreachable(why) if why.contains("refused") => {
            "The connection to the server was refused - did you specify the right host or port?"
                .to_owned()
        }
        ClientError::Unreachable(why) => format!("Unable to connect to the server: {why}"),
        ClientError::Malformed(why) => format!("error: {why}"),
    }
}

fn api_text(error: &ApiError) -> String {
    let message = &error.message;
    match error.reason {
        Reason::Unauthorized => {
            format!("error: You must be logged in to the server ({message})")
        }
        Reason::Invalid => invalid_text(error),
        Reason::Unknown => format!("Error from server: {message}"),
        reason => format!("Error from server ({}): {message}", reason.as_str()),
    }
}

/// The kind and the name once, then each cause.
fn invalid_text(error: &ApiError) -> String {
    let Some(details) = &error.details else {
        return format!("The request is invalid: {}", error.message);
    };
    let subject = if details.kind.is_empty() && details.name.is_empty() {
        match details.causes.is_empty() {
            true => format!("The request is invalid: {}", error.message),
            false => "The request is invalid".to_owned(),
        }
    } else {
        format!("The {} {:?} is invalid", details.kind, details.name)
    };
    let mut causes: Vec<String> = Vec::new();
    for cause in &details.causes {
        let text = format!("{}: {}", cause.field, cause.message);
        if !causes.contains(&text) {
            causes.push(text);
        }
    }
    match causes.as_slice() {
        [] => subject,
        [cause] => format!("{subject}: {cause}"),
        causes => {
            let lines: Vec<String> = causes.iter().map(|cause| format!("* {cause}")).collect();
            format!("{subject}: \n{}", lines.join("\n"))
        }
    }
}

fn source_text(origin: &str, error: &ClientError) -> String {
    match error {
        ClientError::Api(error) if error.reason == Reason::Invalid => invalid_text(error),
        ClientError::Api(error) if error.reason == Reason::Unknown => {
            format!("Error from server: error when {origin}: {}", error.message)
        }
        ClientError::Api(error) => {
            let reason = error.reason.as_str();
            format!(
                "Error from server ({reason}): error when {origin}: {}",
                error.message
            )
        }
        other => client_text(other),
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::{FieldError, FieldErrors, FieldPath, GroupKind, GroupResource};

    use super::*;

    #[test]
    fn failures_are_told_as_kubectl_tells_them() {
        let missing = ApiError::not_found(&GroupResource::new("", "pods"), "x");
        assert_eq!(
            Error::from(missing).to_string(),
            "Error from server (NotFound): pods \"x\" not found"
        );
        let mut errors = FieldErrors::default();
        errors.push(FieldError::required(
            &FieldPath::root().child("spec").child("a"),
            "",
        ));
        let invalid = ApiError::invalid(&GroupKind::new("apps", "Deployment"), "x", &errors);
        assert_eq!(
            Error::from(invalid).to_string(),
            "The Deployment \"x\" is invalid: spec.a: Required value"
        );
        assert_eq!(Error::usage("no").to_string(), "error: no");
    }
}
