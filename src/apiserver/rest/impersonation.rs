//! Acting as somebody else, which needs the right to impersonate each part of the identity.

use std::collections::BTreeMap;

use apimachinery::ApiError;
use auth::{Attributes, User};
use http::HeaderMap;

use crate::filters::forbidden;
use crate::query::{Plus, decode};
use crate::state::State;

const EXTRA: &str = "impersonate-extra-";

/// The user that the request is made as.
pub(crate) async fn impersonate(
    state: &State,
    user: User,
    headers: &HeaderMap,
) -> Result<User, ApiError> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(user);
    };
    for attributes in questions(&user, &wanted) {
        let decision = state.authorizer().authorize(&attributes).await;
        if !decision.is_allowed() {
            return Err(forbidden(&attributes, ""));
        }
    }
    Ok(complete(wanted))
}

fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let name = texts(headers, "impersonate-user")
        .next()
        .unwrap_or_default()
        .to_owned();
    let uid = texts(headers, "impersonate-uid")
        .next()
        .unwrap_or_default()
        .to_owned();
    let groups: Vec<String> = texts(headers, "impersonate-group")
        .map(ToOwned::to_owned)
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys() {
        if let Some(encoded) = key.as_str().strip_prefix(EXTRA) {
            let values = texts(headers, key.as_str()).map(ToOwned::to_owned);
            extra
                .entry(decode(encoded, Plus::IsPlus))
                .or_default()
                .extend(values);
        }
    }
    if name.is_empty() {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(None);
        }
        let go_list = |items: &[String]| {
            let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        let told = if groups.is_empty() {
            "[]string(nil)".to_owned()
        } else {
            go_list(&groups)
        };
        let extra: Vec<String> = extra
            .iter()
            .map(|(key, values)| format!("{key:?}:{}", go_list(values)))
            .collect();
        let extra = match extra.as_slice() {
            [] => "map[string][]string(nil)".to_owned(),
            several => format!("map[string][]string{{{}}}", several.join(", ")),
        };
        return Err(ApiError::bad_request(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:{told}, Extra:{extra}}} without impersonating a \
             user name"
        )));
    }
    Ok(Some(User {
        name,
        uid,
        groups,
        extra,
    }))
}

/// What the requester must be allowed to impersonate.
fn questions(user: &User, wanted: &User) -> Vec<Attributes> {
    let ask =
        |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
            user: user.clone(),
            verb: "impersonate".to_owned(),
            api_group: group.to_owned(),
            api_version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
    let authentication = "authentication.k8s.io";
    let mut questions = vec![match wanted.service_account() {
        Some((namespace, name)) => ask("", "serviceaccounts", "", namespace, name),
        None => ask("", "users", "", "", &wanted.name),
    }];
    questions.extend(
        wanted
            .groups
            .iter()
            .map(|group| ask("", "groups", "", "", group)),
    );
    for (key, values) in &wanted.extra {
        questions.extend(
            values
                .iter()
                .map(|value| ask(authentication, "userextras", key, "", value)),
        );
    }
    if !wanted.uid.is_empty() {
        questions.push(ask(authentication, "uids", "", "", &wanted.uid));
    }
    questions
}

/// Adds the groups that everybody of this sort is in.
fn complete(mut user: User) -> User {
    let mut add = |group: String| {
        if !user.groups.contains(&group) {
            user.groups.push(group);
        }
    };
    if let Some((namespace, _)) = user
        .name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        add("system:serviceaccounts".to_owned());
        add(format!("system:serviceaccounts:{namespace}"));
    }
    add(if user.name == "system:anonymous" {
        "system:unauthenticated"
    } else {
        "system:authenticated"
    }
    .to_owned());
    user
}
