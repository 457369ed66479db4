//! Rates under load, and over a crash.

use futures_util::StreamExt;

use crate::support::*;

const ALLOWED: usize = 5_000;
const CALLS: usize = 20;
const SCRIPTS: usize = 500;

/// 10,000 uses are asked for, from eight sides at once and over a kill, and half of them are allowed.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_to_the_last_use_under_load_and_over_a_kill() {
    let nats = Nats::plain();
    let mut service = Service::start(
        &nats,
        &format!(
            "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n\
             allow = [{{ calls = [\"hash\"], rate = [\"{ALLOWED}/1h\", \"100000/1d\"] }}]\n"
        ),
    );
    let script = format!("for i in 0..{CALLS} {{ hash(\"sha256\", \"x\"); }}");
    let client = nats.client().await;
    let ask = || {
        let (client, script) = (client.clone(), script.clone());
        async move {
            let request = client.request(SUBJECT, script.into());
            tokio::time::timeout(PATIENCE, request).await.ok()?.ok()
        }
    };
    // A quarter of the scripts, then a kill in the middle of longer ones, then the rest.
    let mut running = futures_util::stream::iter((0..SCRIPTS / 4).map(|_| ask())).buffered(8);
    while running.next().await.is_some() {}
    drop(running);
    let long = format!("for i in 0..{} {{ hash(\"sha256\", \"x\"); }}", CALLS * 10);
    let asking = [(); 8].map(|()| {
        let (client, long) = (client.clone(), long.clone());
        tokio::spawn(async move { client.request(SUBJECT, long.into()).await })
    });
    wait_until("something of them is recorded", || {
        let decisions = allowed(&service);
        (decisions > SCRIPTS / 4 * CALLS).then_some(())
    });
    service.crash();
    let before = allowed(&service);
    let all = SCRIPTS / 4 * CALLS + 8 * CALLS * 10;
    assert!(before < all, "none of {all} was under way when it was killed");
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(before < ALLOWED, "{before}");
    service.restart(&nats);
    let rest = (0..SCRIPTS * 3 / 4).map(|_| ask());
    let replies: Vec<_> = futures_util::stream::iter(rest).buffered(8).collect().await;
    let limited = replies.iter().flatten().filter(|reply| {
        let headers = reply.headers.as_ref();
        headers
            .and_then(|all| all.get("Nats-Service-Error"))
            .is_some_and(|e| e.as_str() == "rate-limited")
    });
    assert!(limited.count() > SCRIPTS / 4, "the rate is used up before the end");
    let after = allowed(&service);
    assert!(after.abs_diff(ALLOWED) <= 1, "{after} uses were allowed, not {ALLOWED}");
    service.stop();
}

/// The uses that the log tells of.
fn allowed(service: &Service) -> usize {
    let log = std::fs::read_to_string(service.home.join("audit.log")).unwrap();
    log.matches("\"decision\":\"allow\"").count()
}
