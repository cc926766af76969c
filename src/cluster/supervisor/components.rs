//! What runs over the API: controllers, the scheduler, and the kinds that definitions add. Each calls as an identity of its own.

use std::sync::Arc;

use anyhow::Context as _;
use auth::{AUTHENTICATED_GROUP, MASTERS_GROUP, User};
use bootstrap::{Credentials, DataDir};
use config::{BuiltIn, ServerConfig};
use controller::{Election, Manager};
use env::Shutdown;
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
///
/// `owner`: the server whose folder it is, among those of a shared store.
pub(crate) fn start_add_ons(
    api: &ApiServer,
    data_dir: &DataDir,
    owner: Option<String>,
    basics: &Basics,
) {
    let (client, folder, basics) = (masters_client(api), data_dir.manifests(), basics.clone());
    keep_running("manifests folder", basics.shutdown.clone(), move || {
        let parts = addons::AddOns {
            folder: folder.clone(),
            owner: owner.clone(),
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

/// Who runs what may run once only.
pub(crate) enum Leading {
    /// The only server.
    Alone,
    /// Whoever of the servers of a shared store is elected; this one is called so.
    Elected { identity: String },
}

impl Leading {
    /// Starts it now, or whenever this server is elected.
    fn start(
        &self,
        lease: &'static str,
        api: &ApiServer,
        basics: &Basics,
        start: impl Fn(Shutdown) + Send + Sync + 'static,
    ) {
        let Self::Elected { identity } = self else {
            return start(basics.shutdown.clone());
        };
        let election = Election {
            client: masters_client(api),
            name: lease,
            identity: identity.clone(),
            clock: basics.clock.clone(),
            rng: basics.rng.clone(),
        };
        let shutdown = basics.shutdown.clone();
        env::spawn(async move { election.run(shutdown, start).await });
    }
}

fn manager(api: &ApiServer, basics: &Basics, term: Shutdown) -> Manager {
    let api = api.clone();
    let client_for = move |user: &str| client_as(&api, user);
    Manager::new(client_for, basics.clock.clone(), basics.rng.clone(), term)
}

/// Starts what the configuration asks for of controllers and scheduler; a server that is alone lets them share their caches.
pub(crate) fn start_control(
    api: &ApiServer,
    config: &ServerConfig,
    credentials: &Credentials,
    leading: &Leading,
    basics: &Basics,
) {
    let shared = match leading {
        Leading::Alone => Some(
            manager(api, basics, basics.shutdown.clone())
                .factory()
                .clone(),
        ),
        Leading::Elected { .. } => None,
    };
    if config.runs_controllers {
        let options = controller_options(config, credentials, basics);
        let (for_term, factory) = ((api.clone(), basics.clone()), shared.clone());
        leading.start("kube-controller-manager", api, basics, move |term| {
            let (api, basics) = &for_term;
            let mut manager = manager(api, basics, term);
            if let Some(factory) = &factory {
                manager = manager.with_factory(factory.clone());
            }
            controllers::start_all(&manager, &options);
            tracing::info!("the controllers are running");
        });
    }
    if config.runs_scheduler {
        let for_term = (api.clone(), basics.clone());
        leading.start("kube-scheduler", api, basics, move |term| {
            let (api, basics) = &for_term;
            let own = || manager(api, basics, term.clone()).factory().clone();
            start_scheduler(
                api,
                shared.clone().unwrap_or_else(own),
                basics,
                term.clone(),
            );
        });
    }
}

fn controller_options(
    config: &ServerConfig,
    credentials: &Credentials,
    basics: &Basics,
) -> controllers::Options {
    let signer = controllers::AuthoritySigner::new(
        credentials.client_authority.clone(),
        credentials.server_authority.clone(),
        basics.rng.clone(),
    );
    controllers::Options {
        root_certificate_authority: credentials.server_authority.trusted_pem(),
        certificate_signer: Some(Arc::new(signer)),
        node_cidrs: Some(config.network.node_cidrs.clone()),
        node_monitor_grace: config.node_monitor_grace,
        without_service_lb: config.disabled.contains(&BuiltIn::ServiceLoadBalancer),
    }
}

fn start_scheduler(api: &ApiServer, factory: Factory, basics: &Basics, term: Shutdown) {
    let (client, basics) = (client_as(api, scheduler::USER), basics.clone());
    keep_running("scheduler", term.clone(), move || {
        let scheduler = Scheduler::new(&client, &factory, basics.clock.clone(), basics.rng.clone());
        let shutdown = term.clone();
        async move {
            scheduler.run(shutdown).await;
            Ok(())
        }
    });
    tracing::info!("the scheduler is running");
}
