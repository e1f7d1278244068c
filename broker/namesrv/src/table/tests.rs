//! The rules of the route registry.

use super::*;

mod epochs;

const T0: UnixMillis = UnixMillis(1_000_000);
const QUEUES: Queues = Queues {
    read: 8,
    write: 8,
    perm: 6,
    sys_flag: 0,
};

fn at(seconds: i64) -> UnixMillis {
    UnixMillis(T0.0 + seconds * 1000)
}

fn broker(name: &str, id: u64, addr: &str, topics: &[&str]) -> Registration {
    Registration {
        cluster: "C".into(),
        name: name.into(),
        addr: addr.into(),
        id,
        ha_addr: format!("{addr}-ha"),
        expiry: None,
        acting_master: None,
        zone: None,
        topics: Some(
            topics
                .iter()
                .map(|topic| ((*topic).to_owned(), QUEUES))
                .collect(),
        ),
        version: Version {
            state: 0,
            timestamp: 1,
            counter: 1,
        },
    }
}

fn table() -> RouteTable {
    RouteTable::default()
}

fn addrs(table: &RouteTable, topic: &str, name: &str) -> Vec<(u64, String)> {
    table
        .route(topic)
        .map(|route| route.groups[name].addrs.clone().into_iter().collect())
        .unwrap_or_default()
}

fn changed(mut registration: Registration, counter: i64) -> Registration {
    registration.version.counter = counter;
    registration
}

#[test]
fn a_registered_topic_has_a_route_and_others_have_none() {
    let mut table = table();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    let route = table.route("T").unwrap();
    assert_eq!(route.queues["a"], QUEUES);
    assert_eq!(route.groups["a"].addrs[&0], "a:1");
    assert_eq!(table.route("V"), None);
    assert_eq!(table.topics(|_| true), ["T", "U"]);
}

#[test]
fn a_closed_connection_takes_its_broker_out_at_once() {
    let mut table = table();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    table
        .register(broker("b", 0, "b:1", &["T", "U"]), 2, T0)
        .unwrap();
    assert_eq!(table.channel_closed(1), ["a:1"]);
    assert_eq!(
        table.route("T").unwrap().queues.keys().collect::<Vec<_>>(),
        ["b"]
    );
    assert!(table.channel_closed(2).len() == 1 && table.route("T").is_none());
    assert_eq!((table.live_count(), table.topic_count()), (0, 0));
}

#[test]
fn the_close_of_an_older_connection_leaves_a_broker_that_registered_again() {
    let mut table = table();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 2, T0)
        .unwrap();
    assert!(table.channel_closed(1).is_empty());
    assert!(table.route("T").is_some());
}

#[test]
fn silence_longer_than_the_brokers_own_limit_ends_it() {
    let mut table = table();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    let mut short = broker("b", 0, "b:1", &["T", "U"]);
    short.expiry = Some(Duration::from_secs(10));
    table.register(short, 2, T0).unwrap();
    assert!(table.expire(at(10)).is_empty());
    assert_eq!(table.expire(at(11)), [("b:1".to_owned(), 2)]);
    table.heard("C", "a:1", at(100));
    assert!(table.expire(at(220)).is_empty());
    assert_eq!(table.expire(at(221)), [("a:1".to_owned(), 1)]);
    assert!(table.route("T").is_none());
}

#[test]
fn an_address_holds_one_id_only() {
    let mut table = table();
    table
        .register(broker("a", 1, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    assert_eq!(addrs(&table, "T", "a"), [(0, "a:1".to_owned())]);
}

#[test]
fn a_first_registration_with_one_topic_is_refused() {
    let mut table = table();
    assert_eq!(
        table.register(broker("a", 0, "a:1", &["T"]), 1, T0),
        Err(Refused::OneTopic)
    );
    assert!(table.route("T").is_none() && table.groups().is_empty());
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    table
        .register(changed(broker("a", 0, "a:1", &["V"]), 2), 1, T0)
        .unwrap();
    assert!(table.route("V").is_some() && table.route("T").is_some());
}

#[test]
fn only_the_master_writes_queues() {
    let mut table = table();
    table
        .register(broker("a", 1, "s:1", &["T", "U"]), 1, T0)
        .unwrap();
    assert!(table.route("T").is_none());
    table
        .register(broker("a", 0, "m:1", &["T", "U"]), 2, T0)
        .unwrap();
    assert_eq!(
        addrs(&table, "T", "a"),
        [(0, "m:1".to_owned()), (1, "s:1".to_owned())]
    );
    assert_eq!(
        table.register(broker("a", 1, "s:1", &["T", "U"]), 1, T0),
        Ok(Registered {
            ha_addr: Some("m:1-ha".into()),
            master_addr: Some("m:1".into()),
            ..Registered::default()
        })
    );
}

#[test]
fn the_smallest_slave_stands_in_for_a_missing_master_without_writes() {
    let mut table = RouteTable::new(Rules {
        acting_master: true,
        ..Rules::default()
    });
    let acting = |id, addr| {
        let mut registration = broker("a", id, addr, &["T", "U"]);
        registration.acting_master = Some(true);
        registration
    };
    table.register(acting(0, "m:1"), 1, T0).unwrap();
    table.register(acting(2, "s:2"), 2, T0).unwrap();
    table.register(acting(1, "s:1"), 3, T0).unwrap();
    assert_eq!(table.route("T").unwrap().queues["a"].perm, 6);
    table.channel_closed(1);
    assert_eq!(
        addrs(&table, "T", "a"),
        [(0, "s:1".to_owned()), (2, "s:2".to_owned())]
    );
    assert_eq!(table.route("T").unwrap().queues["a"].perm, 4);
    table.register(acting(0, "m:1"), 4, T0).unwrap();
    assert_eq!(table.route("T").unwrap().queues["a"].perm, 6);
}

#[test]
fn wiped_write_permission_lasts_until_it_is_given_back_or_the_table_changes() {
    let mut table = table();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    assert_eq!(table.set_write("a", Write::Wipe), 2);
    assert_eq!(table.set_write("nobody", Write::Wipe), 0);
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    assert_eq!(table.route("T").unwrap().queues["a"].perm, 4);
    assert_eq!(table.set_write("a", Write::Add), 2);
    assert_eq!(table.route("T").unwrap().queues["a"].perm, 6);
    table.set_write("a", Write::Wipe);
    table
        .register(changed(broker("a", 0, "a:1", &["T", "U"]), 2), 1, T0)
        .unwrap();
    assert_eq!(table.route("T").unwrap().queues["a"].perm, 6);
}

#[test]
fn a_deleted_topic_comes_back_with_the_next_registration_that_has_it() {
    let mut table = table();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    table.delete_topic("T", Some("other"));
    assert!(table.route("T").is_some());
    table.delete_topic("T", Some("C"));
    assert!(table.route("T").is_none());
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    assert!(table.route("T").is_some());
}

#[test]
fn topics_that_a_registration_lacks_leave_only_by_that_rule() {
    for (delete, left) in [(false, 3), (true, 2)] {
        let mut table = RouteTable::new(Rules {
            delete_missing_topics: delete,
            ..Rules::default()
        });
        table
            .register(broker("a", 0, "a:1", &["T", "U", "V"]), 1, T0)
            .unwrap();
        table
            .register(changed(broker("a", 0, "a:1", &["T", "U"]), 2), 1, T0)
            .unwrap();
        assert_eq!(table.topic_count(), left);
    }
}

#[test]
fn clusters_are_told_apart() {
    let mut table = table();
    table
        .register(broker("a", 0, "a:1", &["T", "U"]), 1, T0)
        .unwrap();
    let mut other = broker("b", 0, "b:1", &["T", "W"]);
    other.cluster = "D".into();
    table.register(other, 2, T0).unwrap();
    assert_eq!(table.topics_of_cluster("D"), ["T", "W"]);
    assert_eq!(
        table.clusters()["C"].iter().copied().collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(
        table.version("D", "b:1"),
        Some(Version {
            state: 0,
            timestamp: 1,
            counter: 1
        })
    );
    assert_eq!(table.version("C", "b:1"), None);
}

/// What must hold when nobody is registered any more.
fn assert_empty(table: &RouteTable) {
    assert!(table.groups().is_empty(), "{:?}", table.groups());
    assert_eq!((table.live_count(), table.topic_count()), (0, 0));
    assert_eq!(table.routes.bytes(), 0);
}

#[test]
fn brokers_of_a_connection_and_in_all_are_bounded() {
    let mut table = table();
    table.bounds.brokers_per_channel = 2;
    table.bounds.brokers = 3;
    let mut register = |name: &str, channel| {
        let addr = format!("{name}:1");
        table.register(broker(name, 0, &addr, &["T", name]), channel, T0)
    };
    let refused = Err(Refused::TooManyBrokers {
        in_all: 3,
        of_a_channel: 2,
    });
    assert!(register("a", 1).is_ok() && register("b", 1).is_ok());
    assert_eq!(register("c", 1), refused);
    assert!(register("c", 2).is_ok());
    assert_eq!(register("d", 2), refused);
    // Who is known may come again.
    assert!(register("a", 1).is_ok() && register("c", 2).is_ok());
    assert_eq!(table.channel_closed(1).len(), 2);
    assert_eq!(table.topics(|_| true), ["T", "c"]);
    table.channel_closed(2);
    assert_empty(&table);
}

#[test]
fn a_connection_with_many_brokers_leaves_in_one_pass_over_the_routes() {
    let mut table = table();
    for number in 0..100 {
        let name = format!("b{number}");
        let addr = format!("{name}:1");
        table
            .register(broker(&name, 0, &addr, &["T", &name]), number % 2, T0)
            .unwrap();
    }
    assert_eq!(table.channel_closed(0).len(), 50);
    assert_eq!(table.routes.passes, 1);
    assert_eq!(table.route("T").unwrap().queues.len(), 50);
    // Those that never registered cost none.
    assert!(table.channel_closed(2).is_empty());
    assert_eq!(table.routes.passes, 1);
    assert_eq!(table.expire(at(1000)).len(), 50);
    assert_eq!(table.routes.passes, 2);
    assert_empty(&table);
}

#[test]
fn topics_that_there_is_no_room_for_get_no_route_and_their_broker_stays() {
    let mut table = table();
    table.routes = Routes::bounded(2_000);
    let topics = ["T", "U", "V", "W", "X"];
    let mut register = || table.register(broker("a", 0, "a:1", &topics), 1, T0);
    let left_out = |registered: Result<Registered, Refused>| registered.unwrap().left_out;
    assert_eq!(left_out(register()), 2);
    assert_eq!(left_out(register()), 2);
    assert_eq!((table.live_count(), table.topic_count()), (1, 3));
    table.channel_closed(1);
    assert_empty(&table);
}

/// Each of these once left an address in its group for good, and with it the group and its topics.
#[test]
fn no_address_outlives_its_registration() {
    // As another cluster's.
    let mut table = table();
    let topics = ["T", "U"];
    table
        .register(broker("a", 1, "a:1", &topics), 1, T0)
        .unwrap();
    let mut other = broker("a", 0, "a:0", &topics);
    other.cluster = "D".into();
    table.register(other, 2, T0).unwrap();
    table.channel_closed(1);
    assert_eq!(addrs(&table, "T", "a"), [(0, "a:0".to_owned())]);
    table.channel_closed(2);
    assert_empty(&table);
    // Under another name.
    table
        .register(broker("a", 0, "a:1", &topics), 1, T0)
        .unwrap();
    table
        .register(broker("b", 0, "a:1", &topics), 1, T0)
        .unwrap();
    let names: Vec<_> = table.groups().keys().collect();
    assert_eq!(names, ["b"]);
    table.unregister("C", "a", "a:1", 1);
    assert_empty(&table);
    // As a master that is superseded.
    let mut master = broker("a", 0, "a:0", &topics);
    master.version.state = 5;
    table.register(master, 1, T0).unwrap();
    table
        .register(broker("a", 1, "a:1", &topics), 2, T0)
        .unwrap();
    table
        .register(broker("a", 0, "a:1", &topics), 2, T0)
        .unwrap();
    assert_eq!(addrs(&table, "T", "a"), [(0, "a:0".to_owned())]);
    table.channel_closed(1);
    assert_empty(&table);
}

#[test]
fn an_address_stays_while_another_cluster_has_it_in_the_same_group() {
    let mut table = table();
    let topics = ["T", "U"];
    table
        .register(broker("a", 0, "a:1", &topics), 1, T0)
        .unwrap();
    let mut other = broker("a", 0, "a:1", &topics);
    other.cluster = "D".into();
    table.register(other, 2, T0).unwrap();
    table.channel_closed(1);
    assert_eq!(addrs(&table, "T", "a"), [(0, "a:1".to_owned())]);
    table.channel_closed(2);
    assert_empty(&table);
}
