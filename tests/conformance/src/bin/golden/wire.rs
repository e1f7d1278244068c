//! Records the wire fixtures, one folder for each client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use conformance::apache::{Broker, BrokerOptions, NameServer};
use conformance::facts::Facts;
use conformance::frame::{self, Header};
use conformance::golden;
use conformance::process::scratch;
use conformance::programs::{Programs, java};
use conformance::proxy::{Passed, Recorder};

use crate::say;

const BROKER_LINK: &str = "broker-to-namesrv";
const PATIENCE: Duration = Duration::from_mins(3);

/// Runs every scenario against a fresh pair of Apache's servers.
pub(crate) fn record(programs: &Programs, out: &Path) -> Result<()> {
    let recorder = Recorder::default();
    let namesrv = NameServer::start(programs)?;
    let for_clients = moved(namesrv.addr, 2);
    let for_brokers = moved(namesrv.addr, 3);
    recorder.listen("namesrv", for_clients, namesrv.addr)?;
    recorder.listen(BROKER_LINK, for_brokers, namesrv.addr)?;

    let session = Session {
        programs,
        recorder,
        out,
        namesrv: for_clients,
    };
    session.broker_alone(
        for_brokers,
        "broker-5.4.0-compressed",
        &[("compressedRegister", "true")],
    )?;
    session.broker_alone(
        for_brokers,
        "broker-5.4.0-acting-master",
        &[
            ("enableSlaveActingMaster", "true"),
            ("brokerHeartbeatInterval", "500"),
        ],
    )?;

    let options = proxied(for_brokers, &scratch("golden-store")?)?
        .set("transactionCheckInterval", "1000")
        .set("transactionTimeOut", "1000")
        .set("enablePropertyFilter", "true")
        .set("traceTopicEnable", "true");
    for port in [options.port, options.port - 2] {
        session.recorder.listen(
            "broker",
            moved(([127, 0, 0, 1], port).into(), 2),
            ([127, 0, 0, 1], port).into(),
        )?;
    }
    let broker = Broker::start(programs, &options)?;
    session.java(
        "java-4.9.8",
        "rocketmq-client 4.9.8",
        &programs.client_4_9,
        "JSON",
        1,
    )?;
    session.java(
        "java-5.4.0",
        "rocketmq-client 5.4.0",
        &programs.client_5,
        "JSON",
        2,
    )?;
    session.java(
        "java-5.4.0-compact",
        "rocketmq-client 5.4.0",
        &programs.client_5,
        "ROCKETMQ",
        1,
    )?;
    session.go()?;
    session.admin(options.port)?;
    session.slave(for_brokers)?;
    broker.stop()?;
    session.keep("broker-5.4.0", "rocketmq-broker 5.4.0", 1, |link| {
        link == BROKER_LINK
    })
}

struct Session<'a> {
    programs: &'a Programs,
    recorder: Recorder,
    out: &'a Path,
    namesrv: SocketAddr,
}

impl Session<'_> {
    fn keep(
        &self,
        scenario: &str,
        client: &str,
        per_kind: usize,
        links: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.write(scenario, client, per_kind, &self.recorder.take(links))
    }

    /// A broker that registers, lives a moment, and leaves.
    fn broker_alone(
        &self,
        namesrv: SocketAddr,
        scenario: &str,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut options = proxied(namesrv, &scratch("golden-store")?)?;
        for (key, value) in settings {
            options = options.set(key, value);
        }
        let broker = Broker::boot(self.programs, &options)?;
        // Apache's name server 5.4.0 refuses the compressed form of its own broker, so an answer is all that can be waited for.
        let mut passed = self.until(BROKER_LINK, |h| h.code == 103)?;
        broker.stop()?;
        passed.extend(self.recorder.take(|link| link == BROKER_LINK));
        self.write(scenario, "rocketmq-broker 5.4.0", 1, &passed)
    }

    /// Takes frames of a link until one fits and two more seconds have passed, in which the round that it belongs to ends.
    fn until(&self, link: &str, fits: impl Fn(&Header) -> bool) -> Result<Vec<Passed>> {
        let end = Instant::now() + PATIENCE;
        let mut passed: Vec<Passed> = Vec::new();
        while !passed
            .iter()
            .any(|p| frame::header(&p.bytes).is_ok_and(|h| fits(&h)))
        {
            if Instant::now() > end {
                bail!("the awaited frame did not pass {link}");
            }
            std::thread::sleep(Duration::from_millis(200));
            passed.extend(self.recorder.take(|l| l == link));
        }
        std::thread::sleep(Duration::from_secs(2));
        passed.extend(self.recorder.take(|l| l == link));
        Ok(passed)
    }

    fn write(
        &self,
        scenario: &str,
        client: &str,
        per_kind: usize,
        passed: &[Passed],
    ) -> Result<()> {
        let kept = golden::write(&self.out.join(scenario), scenario, client, passed, per_kind)?;
        say(&format!(
            "{scenario}: {} frames passed, {kept} kept",
            passed.len()
        ))
    }

    fn java(
        &self,
        scenario: &str,
        client: &str,
        class_path: &str,
        encoding: &str,
        per_kind: usize,
    ) -> Result<()> {
        let mut command = java(
            class_path,
            256,
            &scratch("golden-driver")?,
            &BTreeMap::from([("rocketmq.serialize.type", encoding)]),
        );
        command.args([
            "Driver",
            &format!("ns={}", self.namesrv),
            &format!("prefix={}", scenario.replace('.', "_")),
        ]);
        drive(&mut command)?;
        self.keep(scenario, client, per_kind, |link| link != BROKER_LINK)
    }

    fn go(&self) -> Result<()> {
        drive(
            Command::new(&self.programs.go)
                .arg(format!("ns={}", self.namesrv))
                .arg("prefix=go"),
        )?;
        self.keep("go-2.1.2", "rocketmq-client-go v2.1.2", 1, |link| {
            link != BROKER_LINK
        })
    }

    fn admin(&self, broker_port: u16) -> Result<()> {
        let commands = [
            "clusterList -n NS",
            "updateTopic -n NS -c DefaultCluster -t adm_topic -r 4 -w 4",
            "updateTopic -n NS -b BROKER -t adm_topic2 -r 2 -w 2 -a +message.type=FIFO",
            "topicRoute -n NS -t adm_topic",
            "topicRoute -n NS -t no_such_topic",
            "sendMessage -n NS -t adm_topic -p hello -k key1 -c tag1",
            "topicStatus -n NS -t adm_topic",
            "topicClusterList -n NS -t adm_topic",
            "topicList -n NS",
            "topicList -n NS -c",
            "brokerStatus -n NS -b BROKER",
            "getBrokerConfig -n NS -b BROKER",
            "updateBrokerConfig -n NS -b BROKER -k flushDelayOffsetInterval -v 9000",
            "consumeMessage -n NS -t adm_topic -g java-5_4_0_lite",
            "queryMsgByKey -n NS -t adm_topic -k key1",
            "printMsg -n NS -t adm_topic",
            "updateSubGroup -n NS -c DefaultCluster -g adm_group",
            "updateSubGroup -n NS -b BROKER -g adm_group2",
            "consumerProgress -n NS -g java-5_4_0_cluster",
            "consumerConnection -n NS -g no_such_group",
            "producerConnection -n NS -g no_such_group -t adm_topic",
            "producer -n NS -b BROKER",
            "resetOffsetByTime -n NS -g java-5_4_0_cluster -t java-5_4_0_cluster -s 0",
            "statsAll -n NS -t adm_topic",
            "brokerConsumeStats -n NS -b BROKER",
            "queryCq -n NS -t adm_topic -q 0 -i 0 -c 4 -b BROKER",
            "cloneGroupOffset -n NS -s java-5_4_0_cluster -d adm_group -t java-5_4_0_cluster",
            "updateKvConfig -n NS -s ns1 -k k1 -v v1",
            "deleteKvConfig -n NS -s ns1 -k k1",
            "updateOrderConf -n NS -t adm_topic -m put -v broker-a:4",
            "updateOrderConf -n NS -t adm_topic -m get",
            "updateOrderConf -n NS -t adm_topic -m delete",
            "getNamesrvConfig -n NS",
            "wipeWritePerm -n NS -b broker-a",
            "addWritePerm -n NS -b broker-a",
            "updateTopicPerm -n NS -b BROKER -t adm_topic -p 4",
            "setConsumeMode -n NS -c DefaultCluster -t adm_topic -g adm_group -m PULL",
            "cleanExpiredCQ -n NS -b BROKER",
            "cleanUnusedTopic -n NS -b BROKER",
            "haStatus -n NS -b BROKER",
            "getBrokerEpoch -n NS -b broker-a",
            "exportMetadata -n NS -c DefaultCluster -t -f /dev/null",
            "deleteSubGroup -n NS -c DefaultCluster -g adm_group",
            "deleteTopic -n NS -c DefaultCluster -t adm_topic",
            "topicRoute -n NS -t adm_topic",
        ];
        let ns = self.namesrv.to_string();
        let broker = format!("127.0.0.2:{broker_port}");
        let input = commands.iter().fold(String::new(), |all, c| {
            all + &c
                .replace("NS", &ns)
                .replace("BROKER", &broker)
                .replace(' ', "\t")
                + "\n"
        });
        let mut command = java(
            &self.programs.apache,
            256,
            &scratch("golden-admin")?,
            &BTreeMap::new(),
        );
        let facts = Facts::of(command.arg("Admin"), &input, PATIENCE)?;
        let ran = facts.all().len();
        if ran != commands.len() {
            bail!(
                "only {ran} of {} commands ran: {}",
                commands.len(),
                facts.complaint()
            );
        }
        for fact in facts.all().iter().filter(|f| {
            f["output"]
                .as_str()
                .is_some_and(|o| o.contains("Exception"))
        }) {
            let text = fact["output"].as_str().unwrap_or_default();
            say(&format!(
                "  {}: {}",
                fact["command"],
                text.lines()
                    .find(|l| l.contains("Caused by"))
                    .or(text.lines().next())
                    .unwrap_or_default()
            ))?;
        }
        self.keep("mqadmin-5.4.0", "rocketmq-tools 5.4.0", 1, |link| {
            link != BROKER_LINK
        })
    }

    /// A slave of the running broker: what it asks its master for.
    fn slave(&self, namesrv: SocketAddr) -> Result<()> {
        let options = BrokerOptions::plain(namesrv, &scratch("golden-slave")?)?
            .set("brokerId", "1")
            .set("brokerRole", "SLAVE");
        let slave = Broker::start(self.programs, &options)?;
        let passed = self.until("broker", |h| h.code == 201)?; // the last of its first round of copies
        slave.stop()?;
        self.write("slave-5.4.0", "rocketmq-broker 5.4.0 as SLAVE", 1, &passed)
    }
}

/// Runs a driver to its end; a failed scenario ends the recording.
fn drive(command: &mut Command) -> Result<()> {
    let facts = Facts::of(command, "", PATIENCE)?;
    if let Some(failed) = facts.all().iter().find(|f| f["fact"] == "failed") {
        bail!("{failed}");
    }
    if facts.all().is_empty() {
        bail!("no facts: {}", facts.complaint());
    }
    Ok(())
}

/// The same port on loopback address 127.0.0.`last`.
fn moved(addr: SocketAddr, last: u8) -> SocketAddr {
    ([127, 0, 0, last], addr.port()).into()
}

fn proxied(namesrv: SocketAddr, data: &Path) -> Result<BrokerOptions> {
    let mut options = BrokerOptions::plain(namesrv, data)?;
    "127.0.0.2".clone_into(&mut options.advertised);
    Ok(options)
}
