//! Runs the admission plugins over a write.

use admission::{AdmissionRequest, Operation};
use apimachinery::{ApiError, GroupVersionKind, Object};

use crate::call::{Call, Run};

/// One write, as plugins are told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission<'a> {
    pub(crate) operation: Operation,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) run: Run,
}

/// Lets plugins change the object, and fills in defaults where one did.
pub(crate) async fn mutate(
    call: &Call<'_>,
    admission: Admission<'_>,
    object: &mut Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let plugins = &call.state.config.admission;
    if plugins.is_empty() {
        return Ok(());
    }
    let resource = call.served.description.resource();
    let mut before = object.clone();
    for plugin in plugins {
        let mut request = request(call, &admission, &resource, old);
        request.object = Some(object);
        plugin.admit(&mut request).await?;
        if *object != before {
            call.served
                .resource
                .default(object)
                .map_err(ApiError::internal)?;
            before.clone_from(object);
        }
    }
    Ok(())
}

/// Lets plugins refuse a delete before its validation.
pub(crate) async fn admit_delete(
    call: &Call<'_>,
    admission: Admission<'_>,
    old: &Object,
) -> Result<(), ApiError> {
    let resource = call.served.description.resource();
    for plugin in &call.state.config.admission {
        plugin
            .admit(&mut request(call, &admission, &resource, Some(old)))
            .await?;
    }
    Ok(())
}

/// Lets plugins see a connection before it is made, and change its options.
pub(crate) async fn connect(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    options: &mut Object,
) -> Result<(), ApiError> {
    let resource = call.served.description.resource();
    let admission = Admission {
        operation: Operation::Connect,
        name: &call.path.name,
        namespace: call.namespace(),
        run: Run::Real,
    };
    for plugin in &call.state.config.admission {
        let mut connection = request(call, &admission, &resource, None);
        connection.kind = kind;
        connection.object = Some(&mut *options);
        plugin.admit(&mut connection).await?;
    }
    let mut connection = request(call, &admission, &resource, None);
    connection.kind = kind;
    connection.object = Some(options);
    refuse(call, &connection).await
}

/// Lets plugins refuse what will be stored.
pub(crate) async fn validate(
    call: &Call<'_>,
    admission: Admission<'_>,
    object: Option<&mut Object>,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let resource = call.served.description.resource();
    let mut request = request(call, &admission, &resource, old);
    request.object = object;
    refuse(call, &request).await
}

async fn refuse(call: &Call<'_>, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    for plugin in &call.state.config.admission {
        for warning in plugin.validate(request).await? {
            call.warnings.add(warning);
        }
    }
    Ok(())
}

fn request<'a>(
    call: &'a Call<'_>,
    admission: &Admission<'a>,
    resource: &'a apimachinery::GroupVersionResource,
    old: Option<&'a Object>,
) -> AdmissionRequest<'a> {
    AdmissionRequest {
        operation: admission.operation,
        kind: &call.served.description.kind,
        resource,
        subresource: &call.path.subresource,
        namespace: admission.namespace,
        name: admission.name,
        user: call.user(),
        object: None,
        old,
        dry_run: admission.run.is_dry(),
    }
}
