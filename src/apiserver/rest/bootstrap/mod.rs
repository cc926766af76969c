//! What every cluster has: made when it is missing, through the same road as everything else, and left alone when it is
//! there. Only the server's own endpoints are kept as they are now.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, GroupVersion, Object};
use auth::User;
use futures_util::{StreamExt as _, stream};
use kube_client::{Method, Request, Transport};
use serde_json::{Value, json};

use crate::config::{Advertised, SERVER_ADDRESSES_ANNOTATION};
use crate::state::State;
use crate::transport::InProcess;

/// Objects made at once.
const CREATES_AT_ONCE_MAX: usize = 32;
/// Servers that start together write the same objects.
const WRITE_TRIES_MAX: usize = 5;
/// The second to claim the address of the API's own Service is refused until the Service of the first is there: that is looked
/// for so often, and after such a pause.
const SERVICE_TRIES_MAX: usize = 50;
const SERVICE_PAUSE: Duration = Duration::from_millis(100);
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Priority classes, and the priority levels and flow schemas that clients expect to find.
const OBJECTS: &str = include_str!("objects.json");
/// Group, version and priorities of the local `APIService`s, as upstream registers them.
const LOCAL_SERVICES: &[(&str, &str, u32, u32)] = &[
    ("", "v1", 18_000, 1),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("apps", "v1", 17_800, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("resource.k8s.io", "v1", 16_200, 21),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
];

struct Bootstrap {
    state: Arc<State>,
    transport: InProcess,
}

/// Writes where this server is reached, if it is written differently.
pub(crate) async fn advertise(state: &Arc<State>) -> Result<(), ApiError> {
    Bootstrap::new(state).endpoints().await
}

/// Makes what is missing. Safe to run again, and by several servers at once.
pub(crate) async fn run(state: &Arc<State>) -> Result<(), ApiError> {
    let bootstrap = Bootstrap::new(state);
    bootstrap.create_all(namespaces()).await?;
    let mut objects = auth::bootstrap_objects();
    objects.extend(shipped(state)?);
    objects.extend(authentication(state));
    objects.extend(local_services());
    bootstrap.create_all(objects).await?;
    bootstrap.service_ranges().await?;
    bootstrap.kubernetes_service().await?;
    state.set_bootstrapped();
    Ok(())
}

/// All addresses of all servers, with commas between.
fn everywhere(servers: &[Advertised]) -> String {
    let all: BTreeSet<SocketAddr> = servers
        .iter()
        .flat_map(|server| {
            let port = server.address.port();
            let others = server
                .others
                .iter()
                .map(move |ip| SocketAddr::new(*ip, port));
            others.chain([server.address])
        })
        .collect();
    let all: Vec<String> = all.iter().map(SocketAddr::to_string).collect();
    all.join(",")
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap_or_default()
}

fn namespaces() -> Vec<Object> {
    let namespace =
        |name| object(json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}));
    NAMESPACES.into_iter().map(namespace).collect()
}

fn shipped(state: &State) -> Result<Vec<Object>, ApiError> {
    let mut objects: Vec<Object> = serde_json::from_str(OBJECTS).map_err(ApiError::internal)?;
    let now = state.now().to_seconds_string();
    for schema in objects
        .iter_mut()
        .filter(|object| object.kind() == "FlowSchema")
    {
        let level = schema.text_at(&["spec", "priorityLevelConfiguration", "name"]);
        let message = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"
        );
        let found = json!([{"type": "Dangling", "status": "False", "reason": "Found", "message": message,
            "lastTransitionTime": now}]);
        schema.set_at(&["status", "conditions"], found);
    }
    Ok(objects)
}

/// How servers that extend the API know clients and this server's own proxy. There is none of a proxy's authority unless it
/// was configured.
fn authentication(state: &State) -> Option<Object> {
    let authorities = state.config.authorities.as_ref()?;
    Some(object(json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": authorities.client_pem,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-client-ca-file": authorities.request_header_pem,
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        },
    })))
}

fn local_services() -> Vec<Object> {
    let service = |&(group, version, group_priority, version_priority): &(&str, &str, u32, u32)| {
        let mut spec = json!({"version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority});
        if !group.is_empty() {
            spec["group"] = group.into();
        }
        object(json!({
            "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
            "metadata": {"name": format!("{version}.{group}"),
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
            "spec": spec,
        }))
    };
    LOCAL_SERVICES.iter().map(service).collect()
}

impl Bootstrap {
    fn new(state: &Arc<State>) -> Self {
        let user = User::named("system:apiserver", &[auth::MASTERS_GROUP]);
        let transport = InProcess {
            state: state.clone(),
            user: Arc::new(user),
        };
        Self {
            state: state.clone(),
            transport,
        }
    }

    async fn create_all(&self, objects: Vec<Object>) -> Result<(), ApiError> {
        let creates = stream::iter(
            objects
                .into_iter()
                .map(|object| async move { self.create(&object).await }),
        );
        let results: Vec<_> = creates
            .buffer_unordered(CREATES_AT_ONCE_MAX)
            .collect()
            .await;
        results.into_iter().collect()
    }

    /// Creates an object unless it is there; a status that it carries is written after it.
    async fn create(&self, object: &Object) -> Result<(), ApiError> {
        let collection = self.path(object)?;
        let one = format!("{collection}/{}", object.name());
        if self.call(Method::Get, &one, None).await.is_ok() {
            return Ok(());
        }
        match self.call(Method::Post, &collection, Some(object)).await {
            Ok(mut created) => {
                if let Some(status) = object.0.get("status") {
                    created.0.insert("status".to_owned(), status.clone());
                    self.call(Method::Put, &format!("{one}/status"), Some(&created))
                        .await?;
                }
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates an object whose address another server may be claiming for the same object.
    async fn create_claimed(&self, object: &Object) -> Result<(), ApiError> {
        for _ in 1..SERVICE_TRIES_MAX {
            match self.create(object).await {
                Err(error) if error.is_invalid() => env::sleep(SERVICE_PAUSE).await,
                done => return done,
            }
        }
        self.create(object).await
    }

    /// Creates an object, or makes the one that is there say the same, also when another server writes it meanwhile.
    async fn ensure(&self, object: &Object, parts: &[&[&str]]) -> Result<(), ApiError> {
        for _ in 1..WRITE_TRIES_MAX {
            match self.ensure_once(object, parts).await {
                Err(error) if error.is_conflict() => {}
                done => return done,
            }
        }
        self.ensure_once(object, parts).await
    }

    async fn ensure_once(&self, object: &Object, parts: &[&[&str]]) -> Result<(), ApiError> {
        let one = format!("{}/{}", self.path(object)?, object.name());
        match self.call(Method::Get, &one, None).await {
            Ok(mut current) => {
                let differs = |part: &&&[&str]| current.at(part) != object.at(part);
                let different: Vec<&&[&str]> = parts.iter().filter(differs).collect();
                if different.is_empty() {
                    return Ok(());
                }
                for part in different {
                    current.set_at(part, object.at(part).cloned().unwrap_or_default());
                }
                self.call(Method::Put, &one, Some(&current)).await.map(drop)
            }
            Err(error) if error.is_not_found() => self.create(object).await,
            Err(error) => Err(error),
        }
    }

    fn path(&self, object: &Object) -> Result<String, ApiError> {
        let kind = object.group_version_kind();
        let catalog = self.state.catalog.load();
        let served = catalog.all().find(|served| served.description.kind == kind);
        let served = served.ok_or_else(|| ApiError::internal(format!("{kind} is not served")))?;
        let GroupVersion { group, version } = kind.group_version();
        let root = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let plural = &served.description.plural;
        Ok(if served.description.is_namespaced() {
            format!("{root}/namespaces/{}/{plural}", object.namespace())
        } else {
            format!("{root}/{plural}")
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Object>,
    ) -> Result<Object, ApiError> {
        let body = body
            .map(|body| Value::Object(body.0.clone()).to_string())
            .unwrap_or_default();
        let request = Request {
            method,
            path: path.to_owned(),
            content_type: "application/json",
            body: body.into(),
        };
        let response = self
            .transport
            .call(request)
            .await
            .map_err(ApiError::internal)?;
        let value: Value = serde_json::from_slice(&response.body).map_err(ApiError::internal)?;
        if response.code >= 400 {
            let told = ApiError::from_status(&value);
            return Err(told.unwrap_or_else(|| {
                ApiError::internal(format!("{path} answered {}", response.code))
            }));
        }
        Object::from_value(value).ok_or_else(|| ApiError::internal("the answer is no object"))
    }

    async fn service_ranges(&self) -> Result<(), ApiError> {
        let ranges = &self.state.config.service_ranges;
        let cidrs: Vec<Value> = ranges
            .iter()
            .map(|range| range.trunc().to_string().into())
            .collect();
        let now = self.state.now().to_seconds_string();
        let ready = json!([{"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now,
            "message": "Kubernetes default Service CIDR is ready"}]);
        self.create(&object(json!({
            "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": cidrs}, "status": {"conditions": ready},
        })))
        .await
    }

    /// The Service `kubernetes`, and the endpoints that lead to this server.
    async fn kubernetes_service(&self) -> Result<(), ApiError> {
        let config = &self.state.config;
        let Some(first) = config
            .service_ranges
            .first()
            .and_then(|range| range.hosts().next())
        else {
            return Ok(());
        };
        let port = config.advertised.borrow().address.port();
        self.create_claimed(&object(json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"type": "ClusterIP", "clusterIP": first.to_string(),
                "sessionAffinity": "None", "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]},
        })))
        .await?;
        self.endpoints().await
    }

    /// The endpoints that lead to the servers.
    async fn endpoints(&self) -> Result<(), ApiError> {
        let own = self.state.config.advertised.borrow().clone();
        // An endpoint on a loopback address would lead every pod to itself, and validation refuses it.
        if own.address.ip().is_loopback() || own.address.ip().is_unspecified() {
            return Ok(());
        }
        let servers = self.servers(own);
        let addresses: BTreeSet<IpAddr> = servers.iter().map(|one| one.address.ip()).collect();
        let port = servers[0].address.port();
        let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
        let ips: Vec<Value> = addresses
            .iter()
            .map(|ip| json!({"ip": ip.to_string()}))
            .collect();
        self.ensure(
            &object(json!({
                "kind": "Endpoints", "apiVersion": "v1",
                "metadata": {"name": "kubernetes", "namespace": "default",
                    "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
                "subsets": [{"addresses": ips, "ports": ports}],
            })),
            &[&["subsets"]],
        )
        .await?;
        let endpoint =
            |ip: &IpAddr| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}});
        let is_ipv4 = servers[0].address.is_ipv4();
        let slice = object(json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "annotations": {SERVER_ADDRESSES_ANNOTATION: everywhere(&servers)},
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if is_ipv4 { "IPv4" } else { "IPv6" },
            "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": ports,
        }));
        self.remove_of_other_family(&slice).await?;
        let annotation = ["metadata", "annotations", SERVER_ADDRESSES_ANNOTATION];
        self.ensure(&slice, &[&["endpoints"], &["ports"], &annotation])
            .await
    }

    /// This server and the living ones beside it, all reached at addresses of one family and at one port: a slice has room for no others.
    fn servers(&self, own: Advertised) -> Vec<Advertised> {
        let living = self.state.config.living.as_ref();
        let mut others = living.map_or_else(Vec::new, |living| living.borrow().clone());
        others.retain(|other| {
            let is_alike = other.address.is_ipv4() == own.address.is_ipv4()
                && other.address.port() == own.address.port();
            if !is_alike {
                tracing::warn!(
                    server = %other.address,
                    "a server at another port or at an address of another family is no endpoint of the Service kubernetes"
                );
            }
            is_alike && other.address != own.address
        });
        std::iter::once(own).chain(others).collect()
    }

    /// A slice is of one family for its whole life.
    async fn remove_of_other_family(&self, slice: &Object) -> Result<(), ApiError> {
        let one = format!("{}/{}", self.path(slice)?, slice.name());
        match self.call(Method::Get, &one, None).await {
            Ok(current) if current.0.get("addressType") != slice.0.get("addressType") => {
                self.call(Method::Delete, &one, None).await.map(drop)
            }
            Ok(_same_family) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
