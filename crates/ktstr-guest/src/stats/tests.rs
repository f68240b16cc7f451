#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use super::*;

/// Serves one connection: sends the next element of `answers` for each request. When none is left, holds the connection open
/// without an answer until the client closes it.
fn server(path: &Path, answers: Vec<Vec<u8>>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut requests = Vec::new();
        let mut writer = stream.try_clone().unwrap();
        let mut answers = answers.into_iter();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            requests.push(line);
            if let Some(answer) = answers.next() {
                writer.write_all(&answer).unwrap();
            }
        }
        requests
    })
}

/// The time limit where a test expects an answer. It is so long that only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

fn shared(path: &Path) -> Shared {
    Shared {
        path: path.to_owned(),
        client: Mutex::new(None),
        window: Mutex::default(),
        changed: Condvar::new(),
        within: LONG,
    }
}

#[test]
fn answers_come_line_by_line_over_one_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stats");
    let served = server(
        &path,
        vec![b"{\"n\":1}\n{\"n\":".to_vec(), b"2}\n".to_vec()],
    );
    let shared = shared(&path);
    assert_eq!(shared.ask(), StatsAnswer::Line("{\"n\":1}".to_owned()));
    assert_eq!(shared.ask(), StatsAnswer::Line("{\"n\":2}".to_owned()));
    drop(shared);
    let requests = served.join().unwrap();
    assert_eq!(
        requests,
        ["{\"req\":\"stats\",\"args\":{\"target\":\"top\"}}"; 2]
    );
}

#[test]
fn a_scheduler_that_does_not_answer_or_answers_without_end_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stats");
    let _silent = server(&path, vec![]);
    let mut shared = shared(&path);
    shared.within = WITHIN;
    let StatsAnswer::Failed(why) = shared.ask() else {
        panic!("a silent scheduler gave an answer");
    };
    assert!(why.contains("within 1s"), "{why}");
    std::fs::remove_file(&path).unwrap();
    let _endless = server(&path, vec![vec![b'x'; crate::protocol::MAX_STATS + 5000]]);
    shared.within = LONG;
    assert_eq!(shared.ask(), StatsAnswer::TooLarge);
}

#[test]
fn without_a_socket_there_are_no_requests() {
    let dir = tempfile::tempdir().unwrap();
    let requests = Requests::begin(&dir.path().join("stats"), &[Duration::ZERO]);
    assert!(requests.shared.is_none() && requests.thread.is_none());
}

#[test]
fn pauses_put_a_request_off_and_the_end_cuts_it_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stats");
    let listener = UnixListener::bind(&path).unwrap();
    // The window is paused from the start. An answer may take an hour, so only the end of the requests can end the wait for it.
    let shared = Arc::new(Shared {
        window: Mutex::new(WindowTime {
            began_ns: now_ns(),
            paused: true,
            ..WindowTime::default()
        }),
        within: Duration::from_secs(3600),
        ..shared(&path)
    });
    let serving = Arc::clone(&shared);
    let requests = Requests {
        shared: Some(shared),
        thread: Some(std::thread::spawn(move || {
            serving.serve(&[Duration::from_millis(20)]);
        })),
    };
    let (stream, _) = listener.accept().unwrap();
    let (send, received) = mpsc::channel();
    let mut writer = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            send.send(line).unwrap();
        }
    });
    // This is the request that starts the first interval.
    received.recv().unwrap();
    writer.write_all(b"{}\n").unwrap();
    let in_pause = received.recv_timeout(Duration::from_millis(100));
    assert!(in_pause.is_err(), "a request was sent during the pause");
    requests.paused(false, 0);
    received.recv().unwrap();
    // Nobody answers this request, and dropping the requests does not wait for the answer.
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        drop(requests);
        done.send(()).unwrap();
    });
    let ended = ended.recv_timeout(Duration::from_secs(60));
    assert!(ended.is_ok(), "dropping the requests waited for an answer");
}
