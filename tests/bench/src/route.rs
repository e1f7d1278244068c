//! Where a topic's queues are: asked of a name server once, as any client does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rocket_protocol::body::{ClusterInfo, RouteData};
use rocket_protocol::code::{RequestCode, ResponseCode};
use rocket_protocol::command::Command;
use rocket_remoting::{Client, ClientConfig, NoRequests};

/// A request that is not answered in this time has failed.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Brokers register a new topic at once; a master that is just being restarted needs longer.
const ROUTE_PATIENCE: Duration = Duration::from_secs(30);

/// One queue and the address of the broker that takes writes for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Name of the broker group.
    pub broker: String,
    /// Address of its master.
    pub addr: String,
    /// Queue id within the broker.
    pub id: u32,
}

/// Template of topics that a cluster creates at the first send; only a cluster that does so has a route for it.
pub const TEMPLATE: &str = "TBW102";
/// Queues of a topic that is created so, on each broker: what a client asks for by default.
pub const TEMPLATE_QUEUES: u32 = 4;

/// All queues of `topic` that can be written, in the order of brokers and queue ids. Of a topic that does not exist yet, those
/// that it will have when the cluster creates topics by itself.
///
/// # Errors
/// The name server cannot be reached, does not know the topic, or no master of it is alive.
pub async fn queues_to_send(namesrv: &str, topic: &str) -> anyhow::Result<Vec<Queue>> {
    let client = connect(namesrv).await?;
    match known(&client, topic).await {
        Ok(queues) => Ok(queues),
        Err(error) => match known(&client, TEMPLATE).await {
            Ok(mut queues) => {
                queues.retain(|queue| queue.id < TEMPLATE_QUEUES);
                Ok(queues)
            }
            Err(_) => Err(error),
        },
    }
}

/// All queues of `topic` that can be written, in the order of brokers and queue ids.
///
/// # Errors
/// The name server cannot be reached, does not know the topic, or no master of it is alive.
pub async fn queues(namesrv: &str, topic: &str) -> anyhow::Result<Vec<Queue>> {
    known(&connect(namesrv).await?, topic).await
}

async fn known(client: &Client, topic: &str) -> anyhow::Result<Vec<Queue>> {
    let request = Command::request(RequestCode::GET_ROUTEINFO_BY_TOPIC)
        .with_ext("topic", topic.to_owned())
        .with_ext("acceptStandardJsonOnly", "true");
    let answer = client
        .call(request, TIMEOUT)
        .await
        .context("asking the name server for the route")?;
    if answer.response_code() != ResponseCode::SUCCESS {
        bail!(
            "no route for topic {topic}: {} {}",
            answer.response_code(),
            remark(&answer)
        );
    }
    let route = RouteData::parse(&answer.body.contiguous()).context("the route's body")?;
    let mut queues = Vec::new();
    for data in &route.queue_datas {
        let master = route
            .broker_datas
            .iter()
            .find(|broker| broker.broker_name == data.broker_name);
        let Some(addr) = master.and_then(|broker| broker.broker_addrs.get(&0)) else {
            continue;
        };
        for id in 0..u32::try_from(data.write_queue_nums).unwrap_or(0) {
            queues.push(Queue {
                broker: data.broker_name.clone(),
                addr: addr.clone(),
                id,
            });
        }
    }
    if queues.is_empty() {
        bail!("topic {topic} has no queue with a living master");
    }
    Ok(queues)
}

/// Creates `topic` with `queues` queues on every master and waits until the name server routes to all of them.
///
/// # Errors
/// A master refuses, or the route does not come within the time of a few registrations.
pub async fn create(namesrv: &str, topic: &str, queues: u32) -> anyhow::Result<()> {
    let client = connect(namesrv).await?;
    let answer = client
        .call(
            Command::request(RequestCode::GET_BROKER_CLUSTER_INFO),
            TIMEOUT,
        )
        .await
        .with_context(|| format!("asking {namesrv} for its brokers"))?;
    let info = ClusterInfo::parse(&answer.body.contiguous()).context("the cluster info's body")?;
    let masters: Vec<&String> = info
        .broker_addr_table
        .values()
        .filter_map(|broker| broker.broker_addrs.get(&0))
        .collect();
    for addr in &masters {
        let request = creation(topic, queues);
        let answer = connect(addr).await?.call(request, TIMEOUT).await?;
        if answer.response_code() != ResponseCode::SUCCESS {
            bail!(
                "creating {topic} on {addr}: {} {}",
                answer.response_code(),
                remark(&answer)
            );
        }
    }
    let wanted = masters.len() * queues as usize;
    let end = Instant::now() + ROUTE_PATIENCE;
    while Instant::now() < end {
        if self::queues(namesrv, topic)
            .await
            .is_ok_and(|found| found.len() >= wanted)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("{namesrv} does not route to {topic} after {ROUTE_PATIENCE:?}")
}

/// The request that makes a topic, or sets its queues.
pub fn creation(topic: &str, queues: u32) -> Command {
    Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC)
        .with_ext("topic", topic.to_owned())
        .with_ext("defaultTopic", "TBW102")
        .with_ext("readQueueNums", queues.to_string())
        .with_ext("writeQueueNums", queues.to_string())
        .with_ext("perm", "6")
        .with_ext("topicFilterType", "SINGLE_TAG")
        .with_ext("topicSysFlag", "0")
        .with_ext("order", "false")
}

/// Opens one connection.
///
/// # Errors
/// The address cannot be reached.
pub async fn connect(addr: &str) -> anyhow::Result<Client> {
    Ok(Client::connect(addr, ClientConfig::default(), Arc::new(NoRequests)).await?)
}

/// The remark of an answer, or nothing.
pub fn remark(answer: &Command) -> &str {
    answer.remark.as_deref().unwrap_or_default()
}
