//! `create token`: a token of a service account, by TokenRequest.

use clap::Args;
use kube_client::{JSON, Method, object_path};
use serde_json::json;

use super::How;
use crate::error::{Error, Result};
use crate::output::{Output, render};
use crate::session::Session;
use crate::times;

#[derive(Args)]
pub(super) struct Token {
    /// The service account
    name: String,
    /// Who shall accept it; the API server unless told
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// How long it is good for
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// Pod, Secret or Node the token ends with
    #[arg(long, requires = "bound_object_name", value_name = "KIND")]
    bound_object_kind: Option<String>,
    #[arg(long, value_name = "NAME")]
    bound_object_name: Option<String>,
    #[arg(long, value_name = "UID")]
    bound_object_uid: Option<String>,
}

impl Token {
    pub(super) async fn run(self, how: &How, session: &mut Session) -> Result<()> {
        if !how.only_names_output() {
            return Err(Error::usage(
                "a token is made by the server and not kept: --dry-run, --validate and --field-manager are not for it",
            ));
        }
        let output = Output::parse(how.output.as_deref())?;
        let mut spec = json!({"audiences": self.audience});
        if let Some(duration) = &self.duration {
            spec["expirationSeconds"] = times::parse_duration(duration)?.as_secs().into();
        }
        if let Some(kind) = &self.bound_object_kind {
            spec["boundObjectRef"] =
                json!({"apiVersion": "v1", "kind": kind, "name": self.bound_object_name});
            if let Some(uid) = &self.bound_object_uid {
                spec["boundObjectRef"]["uid"] = uid.clone().into();
            }
        }
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let catalogue = session.catalogue().await?;
        let accounts = &catalogue.find("serviceaccounts")?.resource;
        let path = object_path(accounts, Some(&session.namespace), &self.name, "token");
        let body = request.to_string().into_bytes();
        let answer = session.call(Method::Post, path, JSON, body).await?;
        if !output.is_table() {
            return session.print(render(&output, &answer, ""));
        }
        let token = answer["status"]["token"].as_str();
        let token = token
            .ok_or_else(|| Error::usage("failed to create token: no token in server response"))?;
        session.say(token)
    }
}
