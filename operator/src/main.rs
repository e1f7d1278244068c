//! The program: flags, log, signals, election, and the order in which things start and stop.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use kube::Client;
use kube::client::ClientBuilder;
use prometheus::Registry;
use rocket_operator::cli::{Cli, Command, LogFormat, Run};
use rocket_operator::context::Context;
use rocket_operator::http::{self, Readiness};
use rocket_operator::lease::{Election, End};
use rocket_operator::metrics::{CountRequests, Metrics};
use rocket_operator::validate::{ELECTIONS, Settings};
use rocket_operator::{check, controller, crd};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Crd {
            out_dir: Some(folder),
        }) => crd::write(&folder),
        Some(Command::Crd { out_dir: None }) => print(&crd::stream()?),
        Some(Command::Metrics) => print(&Metrics::new(&Registry::new())?.page()),
        Some(Command::Check { watch_namespaces }) => runtime()?.block_on(async {
            let namespaces: Vec<String> = watch_namespaces
                .into_iter()
                .filter(|name| !name.is_empty())
                .collect();
            let client = Client::try_default()
                .await
                .context("no way to reach a Kubernetes cluster")?;
            print(&format!(
                "{}\n",
                check::check(client, &namespaces).await?.join("\n")
            ))
        }),
        Some(Command::Run(run)) => start(&run),
        None => start(&cli.run),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn start(run: &Run) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&run.log_level)
        .with_context(|| format!("--log-level {} is not a level or filter", run.log_level))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A line that cannot be written is lost: to say so on the same stream would panic, and end the process.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match run.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
    runtime()?.block_on(operate(run))
}

/// Runs until SIGTERM or SIGINT, or until the lease is lost, which is an error: Kubernetes starts the process again.
async fn operate(run: &Run) -> anyhow::Result<()> {
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let signals = stop.clone();
    let (mut term, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tasks.spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
            () = signals.cancelled() => {}
        }
        signals.cancel();
    });

    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry)?);
    metrics.start.set(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64(),
    );
    let readiness = Readiness::default();
    let listener = http::bind(run.metrics_addr)
        .await
        .with_context(|| format!("cannot listen on {}", run.metrics_addr))?;
    let http_stop = CancellationToken::new();
    tasks.spawn(http::serve(
        listener,
        registry,
        readiness.clone(),
        http_stop.clone(),
    ));

    let client = connect(&metrics).await?;
    let identity = run.identity.clone().unwrap_or_else(host_name);
    let settings = Settings {
        domain: run.cluster_domain.clone(),
        broker_image: run.broker_image.clone(),
        elections: ELECTIONS,
    };
    let context = Arc::new(Context::new(
        client.clone(),
        settings,
        Arc::clone(&metrics),
        Some(identity.clone()),
    ));
    let version = tokio::select! {
        version = wait_for_api(&client) => version,
        () = stop.cancelled() => String::new(),
    };
    readiness.set(true);
    tracing::info!(identity, kubernetes = version, namespaces = ?run.namespaces(), "rocket-operator {}", env!("CARGO_PKG_VERSION"));

    let end = if run.leader_elect {
        let namespace = run
            .lease_namespace
            .clone()
            .unwrap_or_else(|| client.default_namespace().to_owned());
        let mut election = Election::new(client, &namespace, &run.lease_name, &identity);
        lead(&mut election, &context, run, &stop).await
    } else {
        metrics.leader.set(1);
        controller::run(context, &run.namespaces(), run.concurrency, &stop).await;
        End::Asked
    };
    readiness.set(false);
    http_stop.cancel();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    anyhow::ensure!(end == End::Asked, "the lease was lost");
    tracing::info!("stopped");
    Ok(())
}

/// Waits to be leader, works as leader, and gives the lease back when the work has ended.
async fn lead(
    election: &mut Election,
    context: &Arc<Context>,
    run: &Run,
    stop: &CancellationToken,
) -> End {
    if !stand_by(election, context, run, stop).await {
        return End::Asked;
    }
    tracing::info!(lease = run.lease_name, "leading");
    context.metrics.leader.set(1);
    let work_stop = stop.child_token();
    let namespaces = run.namespaces();
    let mut work = std::pin::pin!(controller::run(
        Arc::clone(context),
        &namespaces,
        run.concurrency,
        &work_stop
    ));
    let end = tokio::select! {
        end = election.keep(stop) => {
            work_stop.cancel();
            work.await;
            end
        }
        () = &mut work => End::Asked,
    };
    context.metrics.leader.set(0);
    if end == End::Asked
        && let Ok(Err(error)) =
            tokio::time::timeout(Duration::from_secs(2), election.release()).await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot give the lease back"
        );
    }
    end
}

/// Waits to be leader. Meanwhile masters are elected that the leader does not elect: it may be gone with one, and its lease lasts long.
async fn stand_by(
    election: &mut Election,
    context: &Arc<Context>,
    run: &Run,
    stop: &CancellationToken,
) -> bool {
    context.stand_by(true);
    let work_stop = stop.child_token();
    let namespaces = run.namespaces();
    let work = controller::run(
        Arc::clone(context),
        &namespaces,
        run.concurrency,
        &work_stop,
    );
    let won = async {
        let won = election.win(stop).await;
        work_stop.cancel();
        won
    };
    let ((), won) = tokio::join!(work, won);
    context.stand_by(false);
    won
}

/// A client whose every request is counted.
async fn connect(metrics: &Arc<Metrics>) -> anyhow::Result<Client> {
    let mut config = kube::Config::infer()
        .await
        .context("no way to reach a Kubernetes cluster: not in a pod, and no kubeconfig")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // A watch is a read that lasts: it is renewed by the server after less than five minutes.
    config.read_timeout = Some(Duration::from_secs(295));
    config.write_timeout = Some(Duration::from_secs(15));
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&CountRequests(Arc::clone(metrics)))
        .build())
}

/// Waits for the first answer of the API server and returns its version.
async fn wait_for_api(client: &Client) -> String {
    loop {
        match client.apiserver_version().await {
            Ok(version) => return version.git_version,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "waiting for the API server"
            ),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let name = if name.is_empty() {
        "rocket-operator"
    } else {
        name
    };
    // Two processes on one desk must not take each other for themselves.
    format!("{name}-{}", std::process::id())
}
