//! Who a process runs as, from the pod's wishes and the image's passwd and group files.

use cri::{LinuxContainerSecurityContext, RunAsUser, SupplementalGroupsPolicy};

/// Ids of a process.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ResolvedUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups; the primary one is among them.
    pub(crate) groups: Vec<u32>,
}

/// A name that the image does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
}

/// Texts of the image's files; empty when it has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Databases<'a> {
    pub(crate) passwd: &'a str,
    pub(crate) group: &'a str,
}

/// A line of passwd.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

/// Resolves user, group and supplementary groups. `image_user` is the image's `user[:group]`.
pub(crate) fn resolve_user(
    security: &LinuxContainerSecurityContext,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<ResolvedUser, UserError> {
    let databases = Databases { passwd, group };
    let wanted = match &security.user {
        RunAsUser::Image => image_user.to_owned(),
        RunAsUser::Uid(uid) => uid.to_string(),
        RunAsUser::Name(name) => name.clone(),
    };
    let (user, group_part) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted.as_str(), None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let account = databases.account(user);
    let uid = match (&account, user.parse()) {
        (Some(account), _) => account.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(UserError::UnknownUser(user.to_owned())),
    };
    let named_gid = group_part
        .map(|group| databases.group_id(group))
        .transpose()?;
    let gid = security.run_as_group.or(named_gid);
    let gid = gid
        .or(account.as_ref().map(|account| account.gid))
        .unwrap_or(0);
    let mut groups = vec![gid];
    if security.supplemental_groups_policy == SupplementalGroupsPolicy::Merge
        && let Some(account) = &account
    {
        groups.extend(databases.groups_of(account.name));
    }
    groups.extend(&security.supplemental_groups);
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|group| seen.insert(*group));
    Ok(ResolvedUser { uid, gid, groups })
}

impl<'a> Databases<'a> {
    /// By name, or by number.
    fn account(&self, user: &str) -> Option<Account<'a>> {
        let accounts = || {
            self.passwd.lines().filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let (name, uid, gid) = (*fields.first()?, fields.get(2)?, fields.get(3)?);
                Some(Account {
                    name,
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                })
            })
        };
        let number: Option<u32> = user.parse().ok();
        accounts()
            .find(|account| account.name == user)
            .or_else(|| accounts().find(|account| Some(account.uid) == number))
    }

    fn group_id(&self, group: &str) -> Result<u32, UserError> {
        let named = self
            .group_lines()
            .find(|(name, ..)| *name == group)
            .map(|(_, gid, _)| gid);
        named
            .or_else(|| group.parse().ok())
            .ok_or_else(|| UserError::UnknownGroup(group.to_owned()))
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let member = |members: &str| members.split(',').any(|member| member.trim() == user);
        self.group_lines()
            .filter(|(.., members)| member(members))
            .map(|(_, gid, _)| gid)
            .collect()
    }

    fn group_lines(&self) -> impl Iterator<Item = (&'a str, u32, &'a str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.splitn(4, ':');
            let name = fields.next()?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nextra:x:50:app,other\nnamed:x:60:\n";

    fn resolved(
        user: RunAsUser,
        image: &str,
        change: impl Fn(&mut LinuxContainerSecurityContext),
    ) -> Result<ResolvedUser, UserError> {
        let mut security = LinuxContainerSecurityContext {
            user,
            ..Default::default()
        };
        change(&mut security);
        resolve_user(&security, image, PASSWD, GROUP)
    }

    #[test]
    fn the_image_names_users_and_groups_and_the_pod_overrides_them() {
        let ids = |uid, gid, groups: &[u32]| {
            Ok(ResolvedUser {
                uid,
                gid,
                groups: groups.to_vec(),
            })
        };
        assert_eq!(resolved(RunAsUser::Image, "", |_| {}), ids(0, 0, &[0]));
        assert_eq!(
            resolved(RunAsUser::Image, "app", |_| {}),
            ids(1000, 1001, &[1001, 50])
        );
        assert_eq!(
            resolved(RunAsUser::Image, "app:named", |_| {}),
            ids(1000, 60, &[60, 50])
        );
        assert_eq!(resolved(RunAsUser::Uid(7), "app", |_| {}), ids(7, 0, &[0]));
        let strict = |security: &mut LinuxContainerSecurityContext| {
            security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict;
            security.supplemental_groups = vec![9, 9];
            security.run_as_group = Some(8);
        };
        assert_eq!(
            resolved(RunAsUser::Uid(1000), "", strict),
            ids(1000, 8, &[8, 9])
        );
        let unknown = Err(UserError::UnknownUser("nobody".to_owned()));
        assert_eq!(
            resolved(RunAsUser::Name("nobody".to_owned()), "", |_| {}),
            unknown
        );
    }
}
