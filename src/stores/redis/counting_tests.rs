//! Limits as all replicas count them, against a real server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::testing::Server;
use super::tests::{address, one, settings};
use super::{Redis, Servers};
use crate::engine::limits::{Counts, Measure, Place, Taken, Want};

fn rate(bucket: u8, each: Duration, burst: u64) -> Want {
    let each = u64::try_from(each.as_micros()).unwrap();
    Want { bucket: [bucket; 32], measure: Measure::Rate { each, span: each * burst } }
}

fn places(bucket: u8, count: u32) -> Want {
    Want { bucket: [bucket; 32], measure: Measure::Places { count } }
}

fn place() -> Place {
    rand::random()
}

fn service() -> Arc<str> {
    "s".into()
}

async fn is_taken(store: &Redis, wants: &[Want]) -> bool {
    store.take(&service(), &place(), wants).await.unwrap() == Taken::All
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn o05_a_rate_is_exact_over_replicas_and_refills_by_the_servers_time() {
    for server in [Server::start(&[]), Server::valkey(&[])] {
        a_rate_is_exact(&server).await;
    }
}

async fn a_rate_is_exact(server: &Server) {
    let replicas = [(); 2].map(|()| Arc::new(Redis::new(one(server), &Handle::current())));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..200 {
        let store = Arc::clone(&replicas[caller % 2]);
        callers.spawn(async move { is_taken(&store, &[rate(1, HOUR, 50)]).await });
    }
    assert_eq!(callers.join_all().await.into_iter().filter(|taken| *taken).count(), 50);
    let Taken::None(0, wait) = replicas[0].take(&service(), &place(), &[rate(1, HOUR, 50)]).await.unwrap() else {
        panic!("the bucket is empty")
    };
    assert!(wait <= HOUR && wait > HOUR - Duration::from_secs(60), "{wait:?}");

    let second = Duration::from_secs(1);
    assert!(is_taken(&replicas[0], &[rate(2, second, 1)]).await);
    let began = Instant::now();
    while !is_taken(&replicas[1], &[rate(2, second, 1)]).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() > second * 8 / 10, "a second refills one: {:?}", began.elapsed());
    let end = |key: &str| {
        let told = server.ask(&format!("PTTL {{portcullis:limits:s}}:{key}"));
        told.trim_start_matches(':').trim_end().parse::<i64>().unwrap_or_else(|_| panic!("{told}"))
    };
    let (bucket, all) = (end("AQEBAQEBAQEBAQEBAQEBAQ"), end("buckets"));
    assert!(bucket > 0 && bucket <= 50 * 3_600_000, "a bucket ends when it is full: {bucket}");
    assert!((all - bucket).abs() < 1000, "and what counts them with the last of them: {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_taken_or_nothing_and_the_longest_wait_is_named() {
    let server = Server::start(&[]);
    let store = Redis::new(one(&server), &Handle::current());
    let (quick, slow) = (rate(1, Duration::from_secs(1), 1), rate(2, HOUR, 2));
    let both = [quick.clone(), slow.clone()];
    assert!(is_taken(&store, &both).await);
    let refused = store.take(&service(), &place(), &both).await.unwrap();
    assert!(matches!(refused, Taken::None(0, wait) if wait <= Duration::from_secs(1)), "{refused:?}");
    assert!(is_taken(&store, std::slice::from_ref(&slow)).await, "nothing was taken of the other");
    let refused = store.take(&service(), &place(), &both).await.unwrap();
    assert!(matches!(refused, Taken::None(1, wait) if wait > HOUR / 2), "{refused:?}");
    // A batch takes several of one bucket.
    let three = [rate(3, HOUR, 5), rate(3, HOUR, 5), rate(3, HOUR, 5)];
    assert!(is_taken(&store, &three).await);
    assert!(!is_taken(&store, &three).await, "two are left");
    assert!(is_taken(&store, &three[..2]).await);
    assert!(!is_taken(&store, &three[..1]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn o03_a_service_has_a_million_buckets_and_none_is_forgotten_for_another() {
    let server = Server::start(&[]);
    // All but two of them are other callers', full again in an hour. It takes the server some seconds.
    let all = "{portcullis:limits:s}:buckets";
    let others = "local time = redis.call('TIME') local full = string.format('%.0f', (time[1] + 3600) * 1000000) \
                  for number = ARGV[1], ARGV[2] do redis.call('ZADD', KEYS[1], full, number) end";
    for part in 0..20 {
        let last = if part == 19 { 999_998 } else { (part + 1) * 50_000 };
        server.ask(&format!("EVAL \"{others}\" 1 {all} {} {last}", part * 50_000 + 1));
    }
    let store = Redis::new(one(&server), &Handle::current());
    assert!(is_taken(&store, &[rate(1, HOUR, 1)]).await);
    assert!(is_taken(&store, &[rate(2, HOUR, 2)]).await, "the last bucket");
    let refused = store.take(&service(), &place(), &[rate(3, HOUR, 1)]).await.unwrap();
    assert_eq!(refused, Taken::None(0, Duration::from_secs(1)), "a caller without a bucket waits");
    assert!(is_taken(&store, &[rate(2, HOUR, 2)]).await, "whoever has one goes on");
    let refused = store.take(&service(), &place(), &[rate(1, HOUR, 1)]).await.unwrap();
    assert!(matches!(refused, Taken::None(0, wait) if wait > HOUR / 2), "and stays limited: {refused:?}");
    assert!(store.take(&"other".into(), &place(), &[rate(3, HOUR, 1)]).await.unwrap() == Taken::All);
    // Those that are full again make room.
    server.ask(&format!("ZADD {all} 1 1 1 2"));
    assert!(is_taken(&store, &[rate(3, HOUR, 1), rate(4, HOUR, 1)]).await);
    assert!(!is_taken(&store, &[rate(5, HOUR, 1)]).await);
    assert_eq!(server.ask(&format!("ZCARD {all}")), ":1000000\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn n11_the_fill_is_scaled_when_the_rate_changes() {
    let server = Server::start(&[]);
    let store = Redis::new(one(&server), &Handle::current());
    let left = async |each, burst| {
        let mut taken = 0;
        while is_taken(&store, &[rate(1, each, burst)]).await {
            taken += 1;
        }
        taken
    };
    for _ in 0..2 {
        assert!(is_taken(&store, &[rate(1, HOUR, 4)]).await);
    }
    assert_eq!(left(HOUR / 2, 8).await, 4, "half full of four is half full of eight");
    assert_eq!(left(HOUR / 20, 80).await, 0, "an empty bucket stays empty at a higher rate");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_exact_over_replicas_and_given_back() {
    for server in [Server::start(&[]), Server::valkey(&[])] {
        places_are_exact(&server).await;
    }
}

async fn places_are_exact(server: &Server) {
    let replicas = [(); 2].map(|()| Redis::new(one(server), &Handle::current()));
    let want = [places(1, 3)];
    let held = [place(), place(), place()];
    for (number, place) in held.iter().enumerate() {
        assert_eq!(replicas[number % 2].take(&service(), place, &want).await.unwrap(), Taken::All);
    }
    for store in &replicas {
        assert!(matches!(store.take(&service(), &place(), &want).await.unwrap(), Taken::None(0, _)));
    }
    replicas[0].release(&service(), held[0], vec![[1; 32]]);
    let free = async {
        while !is_taken(&replicas[1], &want).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), free).await.expect("a place is free");
    assert!(!is_taken(&replicas[0], &want).await, "and only one");
    let key = "{portcullis:limits:s}:AQEBAQEBAQEBAQEBAQEBAQ";
    let told = server.ask(&format!("PTTL {key}"));
    let left: u64 = told.lines().next().and_then(|line| line.strip_prefix(':')?.parse().ok()).unwrap();
    assert!(left > 0 && left <= 30_000, "a process that died holds nothing for ever: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_counts_each_service_in_one_slot() {
    let nodes = Server::cluster(&[]);
    let store = Redis::new(settings(Servers::Cluster(vec![address(&nodes[0])])), &Handle::current());
    for service in ["a", "b", "c", "d"] {
        let wants = [rate(1, HOUR, 1), places(2, 1)];
        assert_eq!(store.take(&service.into(), &place(), &wants).await.unwrap(), Taken::All);
        assert!(matches!(store.take(&service.into(), &place(), &wants).await.unwrap(), Taken::None(0, _)));
    }
}
