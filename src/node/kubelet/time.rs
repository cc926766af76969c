//! `metav1.Time` has whole seconds.

use env::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(moment.unix_seconds())
}

pub(crate) fn api_time(moment: Timestamp) -> Time {
    Time(whole_seconds(moment).to_jiff())
}

pub(crate) fn from_api(time: &Time) -> Timestamp {
    Timestamp::from_jiff(time.0)
}
