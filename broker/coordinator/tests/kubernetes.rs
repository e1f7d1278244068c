//! The Kubernetes register: what each answer of an API server means, and the whole suite on a real one.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt as _};
use rocket_api::{RocketBrokerGroup, RocketBrokerGroupSpec, custom_resource_definitions};
use rocket_coordinator::kubernetes::{KubernetesCoordinator, state_of, status_of};
use rocket_coordinator::{CasAnswer, Coordinator as _};
use rocket_replication::identity::GroupUid;
use rocket_replication::state::State;

use tokio_util::task::TaskTracker;

use crate::suite;

const UID: &str = "00000000-0000-0000-0000-000000000009";

fn object(state: Option<&State>) -> RocketBrokerGroup {
    let spec = RocketBrokerGroupSpec {
        cluster: "orders".into(),
        index: 0,
    };
    let mut object = RocketBrokerGroup::new("orders-0", spec);
    object.metadata.uid = Some(UID.into());
    object.metadata.resource_version = Some("41".into());
    object.status = state.map(|state| status_of(state).unwrap());
    object
}

#[test]
fn state_survives_the_status_of_an_object_and_people_read_names() {
    let state = suite::group();
    let object = object(Some(&state));
    assert_eq!(state_of(&object).unwrap(), state);
    let status = object.status.unwrap();
    assert_eq!(
        (status.master_name.as_deref(), status.in_sync_names.as_str()),
        (Some("orders-0-0"), "orders-0-0")
    );
}

#[test]
fn status_of_another_object_is_refused() {
    let mut copied = object(Some(&suite::group()));
    copied.metadata.uid = Some("00000000-0000-0000-0000-00000000000a".into());
    assert!(
        state_of(&copied)
            .unwrap_err()
            .to_string()
            .contains("is of group")
    );
    assert!(
        state_of(&object(None))
            .unwrap_err()
            .to_string()
            .contains("no status")
    );
}

/// Answers the get with the object and the replace with `code`; returns what the write was told.
async fn written_against(code: u16) -> CasAnswer {
    let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let answering = TaskTracker::new().spawn(async move {
        while let Some((request, answer)) = server.next_request().await {
            let is_write = request.method() == Method::PUT;
            let is_watch = request
                .uri()
                .query()
                .is_some_and(|query| query.contains("limit") || query.contains("watch"));
            if is_watch {
                continue;
            }
            let body = serde_json::to_vec(&object(Some(&suite::group()))).unwrap();
            let status = if is_write { code } else { 200 };
            let refusal = format!(
                r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"x","code":{status}}}"#
            );
            let body = if status == 200 {
                body
            } else {
                refusal.into_bytes()
            };
            answer.send_response(
                Response::builder()
                    .status(StatusCode::from_u16(status).unwrap())
                    .body(Body::from(body))
                    .unwrap(),
            );
        }
    });
    let register = KubernetesCoordinator::new(
        Client::new(service, "mq"),
        "mq",
        "orders-0",
        &TaskTracker::new(),
    );
    let answer = register.cas(suite::growing(&suite::group(), 1)).await;
    answering.abort();
    answer
}

#[tokio::test]
async fn only_a_clear_refusal_proves_that_nothing_was_written() {
    for (code, meaning) in [
        (409, CasAnswer::Conflict),
        (404, CasAnswer::Conflict),
        (403, CasAnswer::Unsent),
        (422, CasAnswer::Unsent),
        (429, CasAnswer::Unknown),
        (500, CasAnswer::Unknown),
        (503, CasAnswer::Unknown),
        (504, CasAnswer::Unknown),
    ] {
        assert_eq!(written_against(code).await, meaning, "{code}");
    }
    assert!(matches!(written_against(200).await, CasAnswer::Applied(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_object_on_a_real_api_server_is_a_register() {
    if std::env::var_os("KUBECONFIG").is_none() {
        // Past the test runner's capture: a test that shows nothing must be heard.
        let line = b"SKIPPED, not shown here: the Kubernetes coordinator needs KUBECONFIG to name an API server\n";
        std::io::stdout().lock().write_all(line).unwrap();
        return;
    }
    let client = Client::try_default().await.unwrap();
    install(&client).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = format!("coordinator-{}", std::process::id());
    let mut wanted = Namespace::default();
    wanted.metadata.name = Some(namespace.clone());
    namespaces
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    suite::all(async |first| register(&client, &namespace, first).await).await;
    namespaces
        .delete(&namespace, &DeleteParams::background())
        .await
        .unwrap();
}

async fn install(client: &Client) {
    let api = Api::all(client.clone());
    for definition in custom_resource_definitions() {
        let name = definition.name_any();
        let params = PatchParams::apply("coordinator-test").force();
        api.patch(&name, &params, &Patch::Apply(&definition))
            .await
            .unwrap();
        await_condition(api.clone(), &name, conditions::is_crd_established())
            .await
            .unwrap();
    }
}

async fn register(
    client: &Client,
    namespace: &str,
    mut first: State,
) -> (KubernetesCoordinator, KubernetesCoordinator) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("orders-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let api: Api<RocketBrokerGroup> = Api::namespaced(client.clone(), namespace);
    let mut wanted = object(None);
    wanted.metadata = kube::api::ObjectMeta {
        name: Some(name.clone()),
        ..Default::default()
    };
    let mut made = api.create(&PostParams::default(), &wanted).await.unwrap();
    first.group_uid = GroupUid::from_uuid(&made.uid().unwrap()).unwrap();
    made.status = Some(status_of(&first).unwrap());
    api.replace_status(&name, &PostParams::default(), &made)
        .await
        .unwrap();
    let tasks = TaskTracker::new();
    let handle = || KubernetesCoordinator::new(client.clone(), namespace, &name, &tasks);
    (handle(), handle())
}
