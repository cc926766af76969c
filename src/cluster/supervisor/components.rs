//! What runs over the API: controllers, the scheduler, and the kinds that definitions add. Each calls as an identity of its own.

use std::sync::Arc;

use anyhow::Context as _;
use auth::{AUTHENTICATED_GROUP, MASTERS_GROUP, User};
use bootstrap::{Credentials, DataDir};
use config::{BuiltIn, ServerConfig};
use controller::Manager;
use informer::Factory;
use kube_client::Client;
use rest::ApiServer;
use scheduler::Scheduler;

use crate::cluster_dns;
use crate::control_plane::Basics;
use crate::keep_running::keep_running;

const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// A client in this process that calls as the user of this name, in the groups that its kind of name has.
pub(crate) fn client_as(api: &ApiServer, name: &str) -> Client {
    let mut groups = vec![AUTHENTICATED_GROUP.to_owned()];
    if let Some((namespace, _account)) = name
        .strip_prefix(SERVICE_ACCOUNT_PREFIX)
        .and_then(|rest| rest.split_once(':'))
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    if name.starts_with("system:node:") {
        groups.push("system:nodes".to_owned());
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Client::new(api.transport(User::named(name, &groups)))
}

/// A client that may do everything, for what belongs to no component.
pub(crate) fn masters_client(api: &ApiServer) -> Client {
    Client::new(api.transport(User::named(
        "system:apiserver",
        &[MASTERS_GROUP, AUTHENTICATED_GROUP],
    )))
}

/// Serves custom kinds as their definitions come and go.
pub(crate) fn start_custom_resources(api: &ApiServer, basics: &Basics) {
    let client = masters_client(api);
    let (api, basics) = (api.clone(), basics.clone());
    keep_running("custom kinds", basics.shutdown.clone(), move || {
        let (api, client, basics) = (api.clone(), client.clone(), basics.clone());
        async move {
            let factory = Factory::new(client.clone(), basics.rng.clone());
            let serve = move |kinds| api.set_custom_resources(kinds);
            extensions::follow(
                client,
                &factory,
                basics.clock.clone(),
                serve,
                basics.shutdown.clone(),
            )
            .await;
            Ok(())
        }
    });
}

/// Keeps in the cluster what the files of the manifests folder say.
pub(crate) fn start_add_ons(api: &ApiServer, data_dir: &DataDir, basics: &Basics) {
    let (client, folder, basics) = (masters_client(api), data_dir.manifests(), basics.clone());
    keep_running("manifests folder", basics.shutdown.clone(), move || {
        let parts = addons::AddOns {
            folder: folder.clone(),
            client: client.clone(),
            clock: basics.clock.clone(),
            shutdown: basics.shutdown.clone(),
        };
        async move {
            addons::run(parts)
                .await
                .context("follow the manifests folder")
        }
    });
}

/// Keeps the Service of the cluster's DNS, or takes it away where somebody else answers.
pub(crate) fn start_dns_service(api: &ApiServer, config: &ServerConfig, basics: &Basics) {
    let client = masters_client(api);
    if config.disabled.contains(&BuiltIn::Dns) {
        env::spawn(async move {
            if let Err(error) = cluster_dns::withdraw(&client).await {
                tracing::warn!(%error, "the Service of the DNS that is disabled is still there");
            }
        });
        return;
    }
    let (address, basics) = (config.cluster_dns, basics.clone());
    keep_running("DNS Service", basics.shutdown.clone(), move || {
        let (client, basics) = (client.clone(), basics.clone());
        async move {
            let factory = Factory::new(client.clone(), basics.rng.clone());
            cluster_dns::keep_published(&client, &factory, address, &basics).await
        }
    });
}

/// Starts what the configuration asks for of controllers and scheduler; they share their caches.
pub(crate) fn start_control(
    api: &ApiServer,
    config: &ServerConfig,
    credentials: &Credentials,
    basics: &Basics,
) {
    let for_user = api.clone();
    let manager = Manager::new(
        move |user| client_as(&for_user, user),
        basics.clock.clone(),
        basics.rng.clone(),
        basics.shutdown.clone(),
    );
    if config.runs_controllers {
        let signer = controllers::AuthoritySigner::new(
            credentials.client_authority.clone(),
            credentials.server_authority.clone(),
            basics.rng.clone(),
        );
        let options = controllers::Options {
            root_certificate_authority: credentials.server_authority.trusted_pem(),
            certificate_signer: Some(Arc::new(signer)),
            node_cidrs: Some(config.network.node_cidrs.clone()),
            node_monitor_grace: config.node_monitor_grace,
            without_service_lb: config.disabled.contains(&BuiltIn::ServiceLoadBalancer),
        };
        controllers::start_all(&manager, &options);
        tracing::info!("the controllers are running");
    }
    if config.runs_scheduler {
        let (client, factory, basics) = (
            client_as(api, scheduler::USER),
            manager.factory().clone(),
            basics.clone(),
        );
        keep_running("scheduler", basics.shutdown.clone(), move || {
            let scheduler =
                Scheduler::new(&client, &factory, basics.clock.clone(), basics.rng.clone());
            let shutdown = basics.shutdown.clone();
            async move {
                scheduler.run(shutdown).await;
                Ok(())
            }
        });
        tracing::info!("the scheduler is running");
    }
}
