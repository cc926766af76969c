//! Objects written to an etcd cluster that has none.

use etcd::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd::proto::etcdserverpb::request_op::Request;
use etcd::proto::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest};
use remote::{Client, Repeat};

use crate::contents::Row;
use crate::error::{Error, Result};
use crate::etcd_source::{OBJECTS, count, failed, read_all};
use crate::kine_target::compare;

/// etcd takes 128 operations and 1.5 MiB in one transaction.
const BATCH_KEYS: usize = 100;
const BATCH_BYTES: usize = 1 << 20;

/// Writes all, and reads them again.
pub(crate) async fn write(client: &Client, rows: &[Row]) -> Result<()> {
    let there = count(client).await?;
    if there > 0 {
        let why = format!(
            "it has {there} keys below {OBJECTS} already: objects are only written where there are none"
        );
        return Err(failed(client, &why));
    }
    let written = write_all(client, rows).await;
    written.map_err(|error| match error {
        Error::Etcd { endpoints, why } => Error::Etcd {
            endpoints,
            why: format!(
                "{why}; what was written stays there: `etcdctl del --prefix {OBJECTS}` removes it"
            ),
        },
        other => other,
    })
}

async fn write_all(client: &Client, rows: &[Row]) -> Result<()> {
    let mut rest = rows;
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(batch_length(rest));
        put(client, batch).await?;
        rest = later;
    }
    compare(rows, read_all(client).await?.0)
}

/// How many of these go at once; at least one.
fn batch_length(rows: &[Row]) -> usize {
    let mut bytes = 0;
    let fits = |row: &&Row| {
        bytes += row.key.len() + row.value.len();
        bytes <= BATCH_BYTES
    };
    rows.iter().take(BATCH_KEYS).take_while(fits).count().max(1)
}

async fn put(client: &Client, rows: &[Row]) -> Result<()> {
    let request = TxnRequest {
        compare: rows.iter().map(is_absent).collect(),
        success: rows.iter().map(write_one).collect(),
        failure: Vec::new(),
    };
    let call = |client: Client, request: TxnRequest| async move { client.kv().txn(request).await };
    let answer = client.call(Repeat::Unseen, request, call).await;
    let answer = answer.map_err(|status| failed(client, status.message()))?;
    if answer.succeeded {
        return Ok(());
    }
    Err(failed(client, "somebody else writes objects there"))
}

fn is_absent(row: &Row) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: row.key.clone().into_bytes(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Compare::default()
    }
}

fn write_one(row: &Row) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: row.key.clone().into_bytes(),
            value: row.value.clone(),
            ..PutRequest::default()
        })),
    }
}
