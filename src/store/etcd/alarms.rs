//! Alarms, as etcd names and shows them.

use kv::Alarm;

use crate::core::Core;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::AlarmType;

/// The alarm of a number of the API; `None`: it is "any", or one that nobody knows.
pub(crate) fn known(number: i32) -> Option<Alarm> {
    match AlarmType::try_from(number) {
        Ok(AlarmType::Nospace) => Some(Alarm::NoSpace),
        Ok(AlarmType::Corrupt) => Some(Alarm::Corrupt),
        Ok(AlarmType::None) | Err(_) => None,
    }
}

/// Those of the raised alarms that a client asks for.
pub(crate) fn asked(raised: Vec<Alarm>, number: i32) -> Vec<Alarm> {
    if number == i32::from(AlarmType::None) {
        return raised;
    }
    let wanted = known(number);
    raised
        .into_iter()
        .filter(|alarm| Some(*alarm) == wanted)
        .collect()
}

pub(crate) fn name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    }
}

impl Core {
    pub(crate) fn member_with(&self, alarm: Alarm) -> pb::AlarmMember {
        let alarm = match alarm {
            Alarm::NoSpace => AlarmType::Nospace,
            Alarm::Corrupt => AlarmType::Corrupt,
        };
        pb::AlarmMember {
            member_id: self.identity.member_id,
            alarm: alarm.into(),
        }
    }

    /// The raised alarms as errors of a status, in the form that etcd gives them.
    pub(crate) fn alarm_lines(&self) -> Vec<String> {
        let id = self.identity.member_id;
        let line = |alarm: Alarm| format!("memberID:{id} alarm:{} ", name(alarm));
        self.kv.alarms().into_iter().map(line).collect()
    }
}
