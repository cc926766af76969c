//! `create job`, from an image or from a cron job.

use clap::Args;
use kube_client::object_path;
use serde_json::{Value, json};

use crate::arguments::targets;
use crate::error::{Error, Result};
use crate::session::{PLAIN, Session};

#[derive(Args)]
pub(super) struct Job {
    name: String,
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// cronjob/NAME whose template is taken
    #[arg(long, value_name = "CRONJOB")]
    from: Option<String>,
    /// Command of the container
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Job {
    pub(super) async fn object(&self, session: &mut Session) -> Result<Value> {
        match (&self.image, &self.from) {
            (Some(image), None) => Ok(self.of_image(image)),
            (None, Some(from)) => self.of_cron_job(from, session).await,
            _ => Err(Error::usage("either --image or --from must be specified")),
        }
    }

    fn of_image(&self, image: &str) -> Value {
        let mut container = json!({"name": self.name, "image": image});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name},
            "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}},
        })
    }

    async fn of_cron_job(&self, from: &str, session: &mut Session) -> Result<Value> {
        let catalogue = session.catalogue().await?;
        let target = targets(&[from.to_owned()], &catalogue)?.remove(0);
        if target.kind.kind != "CronJob" {
            return Err(Error::usage("from must be an existing cronjob"));
        }
        let name = target.name.unwrap_or_default();
        let path = object_path(&target.kind.resource, Some(&session.namespace), &name, "");
        let cron_job = session.get(path, PLAIN).await?;
        let template = &cron_job["spec"]["jobTemplate"];
        let mut annotations = template["metadata"]["annotations"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        annotations.insert(
            "cronjob.kubernetes.io/instantiate".to_owned(),
            "manual".into(),
        );
        Ok(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": self.name,
                "annotations": annotations,
                "labels": template["metadata"]["labels"],
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "CronJob", "name": name, "controller": true,
                    "uid": cron_job["metadata"]["uid"],
                }],
            },
            "spec": template["spec"],
        }))
    }
}
