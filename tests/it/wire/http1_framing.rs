//! Where a message begins and ends: what two readers could see differently is refused, and nothing behind it is read.

use super::{CHUNKED, GOOD, Scene};

const LENGTH: &str = "Content-Length: 71";
const CODING: &str = "Transfer-Encoding: chunked";

#[tokio::test]
async fn l01_one_request_has_one_length() {
    let scene = Scene::open().await;
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                (LENGTH, "Content-Length: 71\r\nContent-Length: 71"),
                (LENGTH, "Content-Length: 71\r\nContent-Length: 5"),
                (LENGTH, "Content-Length: 5\r\ncontent-length: 71"),
                (LENGTH, "Content-Length: 71, 71"),
                (LENGTH, "Content-Length: +71"),
                (LENGTH, "Content-Length: -71"),
                (LENGTH, "Content-Length: 0x47"),
                (LENGTH, "Content-Length: 7 1"),
                (LENGTH, "Content-Length: 71;"),
                (LENGTH, "Content-Length: \"71\""),
                (LENGTH, "Content-Length: 71.0"),
                (LENGTH, "Content-Length:"),
                (LENGTH, "Content-Length: 18446744073709551687"),
                (LENGTH, "Content-Length: 99999999999999999999999"),
                (LENGTH, "Content-Length : 71"),
                (LENGTH, "Content-Length\t: 71"),
                (LENGTH, " Content-Length: 71"),
            ],
        )
        .await;
    scene.serves(scene.filled(GOOD)).await;
    scene.serves(scene.spoilt(GOOD, LENGTH, "content-length:\t071 ")).await;
}

#[tokio::test]
async fn l01_w03_length_and_coding_never_meet() {
    let scene = Scene::open().await;
    for (request, from) in [(GOOD, LENGTH), (CHUNKED, CODING)] {
        scene
            .refuses_each(
                400,
                request,
                &[
                    (from, "Content-Length: 71\r\nTransfer-Encoding: chunked"),
                    (from, "Transfer-Encoding: chunked\r\nContent-Length: 71"),
                    (from, "Transfer-Encoding: chunked\r\nContent-Length: 0"),
                    (from, "Content-Length: 4\r\nTransfer-Encoding: identity"),
                    (from, "Transfer-Encoding: chunked\r\nX: y\r\ncontent-LENGTH: 4"),
                ],
            )
            .await;
    }
    // The two classics, with a whole request hidden in what one of two readers takes for the body.
    let hidden = scene.filled(GOOD);
    let head = "POST /wire/mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json";
    let cl_te = format!("{head}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    let te_cl = format!("{head}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n{hidden}\r\n0\r\n\r\n");
    for smuggled in [cl_te, te_cl] {
        scene.refuses(400, scene.filled(&smuggled)).await;
    }
    scene.serves(scene.filled(CHUNKED)).await;
}

#[tokio::test]
async fn l01_w04_the_only_coding_is_one_chunked() {
    let scene = Scene::open().await;
    scene
        .refuses_each(
            400,
            CHUNKED,
            &[
                (CODING, "Transfer-Encoding: gzip, chunked"),
                (CODING, "Transfer-Encoding: chunked, chunked"),
                (CODING, "Transfer-Encoding: chunked, identity"),
                (CODING, "Transfer-Encoding: identity"),
                (CODING, "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
                (CODING, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
                (CODING, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
                (CODING, "Transfer-Encoding: xchunked"),
                (CODING, "Transfer-Encoding: chunked;q=1"),
                (CODING, "Transfer-Encoding: \"chunked\""),
                (CODING, "Transfer-Encoding: ,chunked"),
                (CODING, "Transfer-Encoding:"),
                (CODING, "Transfer-Encoding: \x0bchunked"),
                (CODING, "Transfer-Encoding : chunked"),
                (CODING, "Transfer-Encoding\r\n : chunked"),
                (CODING, "Transfer-Encoding:\r\n chunked"),
                (CODING, "X: y\rTransfer-Encoding: chunked"),
                (CODING, "X: y\nTransfer-Encoding: chunked"),
                ("HTTP/1.1", "HTTP/1.0"),
            ],
        )
        .await;
    scene.serves(scene.spoilt(CHUNKED, CODING, "transfer-ENCODING:Chunked")).await;
}

#[tokio::test]
async fn w05_chunks_have_one_reading() {
    let scene = Scene::open().await;
    scene
        .refuses_each(
            400,
            CHUNKED,
            &[
                ("\r\n47\r\n", "\r\n47;\r\n"),
                ("\r\n47\r\n", "\r\n47;\x01a\r\n"),
                ("\r\n47\r\n", "\r\n47;a=\0\r\n"),
                ("\r\n47\r\n", "\r\n47;a=\"b\r\n"),
                ("\r\n47\r\n", "\r\n47;a=\"b\n\"\r\n"),
                ("\r\n47\r\n", "\r\n47;a\n"),
                ("\r\n47\r\n", "\r\n47;a\rb\r\n"),
                ("\r\n47\r\n", "\r\n47 ;a=b\r\n"),
                ("\r\n47\r\n", "\r\n47; a=b\r\n"),
                ("\r\n47\r\n", "\r\n47;;a\r\n"),
                ("\r\n47\r\n", "\r\n47\n"),
                ("\r\n47\r\n", "\r\n47\r"),
                ("\r\n47\r\n", "\r\n47 \r\n"),
                ("\r\n47\r\n", "\r\n 47\r\n"),
                ("\r\n47\r\n", "\r\n0x47\r\n"),
                ("\r\n47\r\n", "\r\n+47\r\n"),
                ("\r\n47\r\n", "\r\n-47\r\n"),
                ("\r\n47\r\n", "\r\n4_7\r\n"),
                ("\r\n47\r\n", "\r\n\r\n"),
                ("\r\n47\r\n", "\r\nfffffffffffffff47\r\n"),
                ("\r\n47\r\n", "\r\n10000000000000047\r\n"),
                ("\r\n47\r\n", "\r\n46\r\n"),
                ("\r\n47\r\n", "\r\n48\r\n"),
                ("}}\r\n0", "}}0"),
                ("}}\r\n0", "}}\n0"),
                ("0\r\n\r\n", "0\n\n"),
                ("0\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n"),
                ("0\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
                ("0\r\n\r\n", "0\r\nAuthorization: Bearer x\r\n\r\n"),
                ("0\r\n\r\n", "0\r\nX\r\n\r\n"),
                ("0\r\n\r\n", "0\r\nX : y\r\n\r\n"),
                ("0\r\n\r\n", "0\r\nX: y\n\r\n"),
            ],
        )
        .await;
    let long = format!("\r\n47;a={}\r\n", "b".repeat(300));
    scene.refuses(400, scene.spoilt(CHUNKED, "\r\n47\r\n", &long)).await;
    let endless = format!("0\r\nX: {}\r\n\r\n", "y".repeat(9000));
    scene.refuses(400, scene.spoilt(CHUNKED, "0\r\n\r\n", &endless)).await;

    scene.serves(scene.spoilt(CHUNKED, "\r\n47\r\n", "\r\n47;name=value;other=\"quoted text\"\r\n")).await;
    scene.serves(scene.spoilt(CHUNKED, "\r\n47\r\n", "\r\n0047\r\n")).await;
    scene.serves(scene.spoilt(CHUNKED, "0\r\n\r\n", "00\r\n\r\n")).await;
}

#[tokio::test]
async fn l01_w11_lines_end_with_cr_lf() {
    let scene = Scene::open().await;
    let filled = scene.filled(GOOD);
    scene.refuses(400, filled.replacen("\r\n\r\n", "\n\n", 1).replace("\r\n", "\n")).await;
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                ("HTTP/1.1\r\n", "HTTP/1.1\n"),
                ("Content-Type: application/json\r\n", "Content-Type: application/json\n"),
                ("Content-Length: 71\r\n\r\n", "Content-Length: 71\r\n\n"),
                ("Content-Length: 71\r\n\r\n", "Content-Length: 71\n\r\n"),
                ("HTTP/1.1\r\n", "HTTP/1.1\r\r\n"),
                ("application/json\r\n", "application/json\r\r\n"),
                ("POST", "\nPOST"),
                ("Accept: ", "X: y\r\n folded\r\nAccept: "),
                ("Accept: ", "X: y\r\n\tfolded\r\nAccept: "),
                ("Accept: ", "X: y\rz\r\nAccept: "),
                ("Accept: ", "X: y\0z\r\nAccept: "),
                ("Accept: ", "X: y\x7fz\r\nAccept: "),
                ("Accept: ", "X : y\r\nAccept: "),
                ("Accept: ", ": y\r\nAccept: "),
                ("Accept: ", "X\r\nAccept: "),
                ("Accept: ", "X y: z\r\nAccept: "),
                ("Accept: ", "X(y): z\r\nAccept: "),
                ("Accept: ", "\u{e9}: z\r\nAccept: "),
            ],
        )
        .await;
    scene.serves(filled).await;
    scene.serves(scene.spoilt(GOOD, "Accept: ", "X:\ty\tz \r\nAccept:")).await;
}

#[tokio::test]
async fn l01_w12_the_request_line_is_exact() {
    let scene = Scene::open().await;
    let line = "POST /wire/mcp HTTP/1.1";
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                (line, "post /wire/mcp HTTP/1.1"),
                (line, "Post /wire/mcp HTTP/1.1"),
                (line, "PO\tST /wire/mcp HTTP/1.1"),
                (line, "QUERY /wire/mcp HTTP/1.1"),
                (line, "POST  /wire/mcp HTTP/1.1"),
                (line, "POST /wire/mcp  HTTP/1.1"),
                (line, "POST\t/wire/mcp\tHTTP/1.1"),
                (line, " POST /wire/mcp HTTP/1.1"),
                (line, "POST /wire/mcp HTTP/1.1 "),
                (line, "POST /wire/mcp HTTP/1.1 x"),
                (line, "POST /wire/mcp http/1.1"),
                (line, "POST /wire/mcp HTTP/1.2"),
                (line, "POST /wire/mcp HTTP/2.0"),
                (line, "POST /wire/mcp HTTP/0.9"),
                (line, "POST /wire/mcp HTTP/1.10"),
                (line, "POST /wire/mcp HTTPS/1.1"),
                (line, "POST /wire/mcp"),
                (line, "POST HTTP/1.1"),
                (line, "/wire/mcp"),
                (line, "PRI * HTTP/2.0"),
            ],
        )
        .await;
    // HTTP/0.9 has neither version nor headers.
    scene.refuses(400, "GET /wire/mcp\r\n\r\n").await;
    scene.refuses(400, "GET /wire/mcp\n\n").await;
    scene.serves(scene.filled(GOOD)).await;
    scene.serves(scene.spoilt(GOOD, "HTTP/1.1", "HTTP/1.0")).await;
}

#[tokio::test]
async fn requests_that_follow_each_other_cleanly_are_all_served() {
    let scene = Scene::open().await;
    let (plain, chunked) = (scene.filled(GOOD), scene.filled(CHUNKED));
    let last = scene.spoilt(GOOD, "Accept", "Connection: close\r\nAccept");
    let mut socket = super::Socket::connect(scene.gateway.address()).await;
    // One byte over the boundary of each piece: the end of a message is found wherever it is cut.
    let all = format!("{plain}{chunked}{plain}{last}");
    for piece in all.as_bytes().chunks(97) {
        socket.send(piece).await;
    }
    let said = socket.until_closed("four requests").await;
    assert_eq!(said.0.matches("HTTP/1.1 200 ").count(), 4, "{said:?}");
    let received = scene.upstream.received();
    assert_eq!(received.len(), 4, "each request reaches the upstream once");
    assert!(received.iter().all(|request| request.body == super::BODY.as_bytes()), "{received:#?}");
}
