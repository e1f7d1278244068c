//! What each field may say, by itself and beside the others.

use rocket_api::{GroupRule, Quantity, RocketClusterSpec};

use super::Refusal;

pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let label = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name.len() > 40
        || !label
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || name.ends_with('-')
    {
        return Err(Refusal(format!(
            "metadata.name: \"{name}\" does not fit into host names: write at most 40 lower-case letters, digits and dashes, starting with a letter"
        )));
    }
    Ok(())
}

pub(super) fn check_numbers(spec: &RocketClusterSpec, rule: GroupRule) -> Result<(), Refusal> {
    let bounds = [
        ("nameServers.replicas", spec.name_servers.replicas, 1, 7),
        ("groups.count", spec.groups.count, 1, 64),
        ("groups.replicas", spec.groups.replicas, 1, 7),
        ("retention.hours", spec.retention.hours, 1, 8760),
        (
            "retention.diskHighWatermarkPercent",
            spec.retention.disk_high_watermark_percent,
            10,
            95,
        ),
        (
            "retention.diskRejectPercent",
            spec.retention.disk_reject_percent,
            spec.retention.disk_high_watermark_percent.max(34) + 1,
            98,
        ),
    ];
    for (field, value, low, high) in bounds {
        if value < low || value > high {
            return Err(Refusal(format!(
                "{field} is {value}: write a number from {low} to {high}"
            )));
        }
    }
    match spec.replication.min_in_sync {
        Some(wanted) if wanted > spec.groups.replicas => Err(Refusal(format!(
            "replication.minInSync is {wanted} but a group has {} replicas: lower minInSync or raise groups.replicas",
            spec.groups.replicas
        ))),
        Some(wanted) if wanted > 1 && rule == GroupRule::Static => Err(Refusal(format!(
            "replication.minInSync is {wanted}, but the masters of this cluster are fixed, since it was begun with one replica in each group or by an earlier version, and replicas beyond them hold no data: leave minInSync out or write 1, or move to another RocketCluster that is begun with replicas"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn check_amounts(spec: &RocketClusterSpec) -> Result<(), Refusal> {
    let refuse =
        |field: &str, error: rocket_api::QuantityError| Refusal(format!("{field}: {error}"));
    Quantity::parse(&spec.groups.storage.size)
        .map_err(|error| refuse("groups.storage.size", error))?;
    for (field, resources) in [
        ("groups.resources", &spec.groups.resources),
        ("nameServers.resources", &spec.name_servers.resources),
    ] {
        for (name, amount) in resources.requests.iter().chain(&resources.limits) {
            Quantity::parse(&crate::build::pod::amount(amount))
                .map_err(|error| refuse(&format!("{field} of {name}"), error))?;
        }
        for (name, limit) in &resources.limits {
            let limit = crate::build::pod::amount(limit);
            let request = resources.requests.get(name).map(crate::build::pod::amount);
            if let Some(request) = request.filter(|request| {
                Quantity::compare(request, &limit) == Some(std::cmp::Ordering::Greater)
            }) {
                return Err(Refusal(format!(
                    "{field}: the request of {name} ({request}) is above its limit ({limit}): raise the limit or lower the request"
                )));
            }
        }
    }
    Ok(())
}
