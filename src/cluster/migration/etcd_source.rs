//! The objects in an etcd cluster, all of them as they are at one revision. Nothing is written there.

use etcd::proto::etcdserverpb::{RangeRequest, RangeResponse};
use kv::{KeyRange, Revision};
use remote::{Client, Repeat};

use crate::contents::{Contents, Row};
use crate::error::{Error, Result};

/// Where every Kubernetes has its objects.
pub(crate) const OBJECTS: &str = "/registry/";
/// As many as an API server asks for at once.
const PAGE_KEYS: i64 = 500;
/// A cluster with more is none that one small machine takes over.
const KEYS_MAX: usize = 1_000_000;

pub(crate) async fn read(client: &Client) -> Result<Contents> {
    let (mut rows, revision) = read_all(client).await?;
    if rows.is_empty() {
        return Err(failed(
            client,
            &format!(
                "it has no keys below {OBJECTS}: it is of no Kubernetes, or of one with another --etcd-prefix"
            ),
        ));
    }
    Ok(Contents {
        revision: order(&mut rows, revision),
        rows,
    })
}

/// Gives each row a revision of its own: those that were written together get the ones after it.
pub(crate) fn order(rows: &mut [Row], revision: Revision) -> Revision {
    rows.sort_by(|one, other| (one.mod_revision, &one.key).cmp(&(other.mod_revision, &other.key)));
    let mut last = 0;
    for row in &mut *rows {
        row.mod_revision = row.mod_revision.max(last + 1);
        last = row.mod_revision;
    }
    revision.max(last)
}

/// Page by page, all at the revision that is returned.
pub(crate) async fn read_all(client: &Client) -> Result<(Vec<Row>, Revision)> {
    let end = KeyRange::prefix(OBJECTS).end.unwrap_or_default();
    let mut request = RangeRequest {
        key: OBJECTS.into(),
        range_end: end,
        limit: PAGE_KEYS,
        ..RangeRequest::default()
    };
    let (mut rows, mut count) = (Vec::new(), None);
    loop {
        let page = range(client, request.clone()).await?;
        let revision = page.header.as_ref().map_or(0, |header| header.revision);
        // The later pages are of the revision of the first.
        if request.revision == 0 {
            request.revision = revision;
        }
        let said = *count.get_or_insert(page.count);
        if let Some(last) = page.kvs.last() {
            request.key = [last.key.as_slice(), &[0]].concat();
        }
        let is_last = !page.more || page.kvs.is_empty();
        rows.extend(page.kvs.into_iter().map(|found| Row {
            key: String::from_utf8_lossy(&found.key).into_owned(),
            value: found.value,
            create_revision: found.create_revision,
            mod_revision: found.mod_revision,
            version: found.version,
            is_leased: found.lease != 0,
        }));
        if rows.len() > KEYS_MAX {
            let why = format!("it has more than {KEYS_MAX} keys below {OBJECTS}");
            return Err(failed(client, &why));
        }
        if is_last {
            if usize::try_from(said) == Ok(rows.len()) {
                return Ok((rows, request.revision));
            }
            let why = format!("it said {said} keys, and gave {}", rows.len());
            return Err(failed(client, &why));
        }
    }
}

/// How many objects are there.
pub(crate) async fn count(client: &Client) -> Result<i64> {
    let request = RangeRequest {
        key: OBJECTS.into(),
        range_end: KeyRange::prefix(OBJECTS).end.unwrap_or_default(),
        count_only: true,
        ..RangeRequest::default()
    };
    Ok(range(client, request).await?.count)
}

async fn range(client: &Client, request: RangeRequest) -> Result<RangeResponse> {
    let call =
        |client: Client, request: RangeRequest| async move { client.kv().range(request).await };
    client
        .call(Repeat::Allowed, request, call)
        .await
        .map_err(|status| failed(client, status.message()))
}

pub(crate) fn failed(client: &Client, why: &str) -> Error {
    Error::Etcd {
        endpoints: client.endpoints().to_string(),
        why: why.to_owned(),
    }
}
