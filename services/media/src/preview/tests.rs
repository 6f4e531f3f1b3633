//! Sites of others, on addresses of loopback: 127.0.0.1 stands for the public Internet, and 127.0.0.2 for a private network.

use std::{
    collections::HashMap,
    io::{self, Cursor},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use image::{ImageFormat, RgbImage};
use kit::reach::Lookup;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::pictures::{Limits, PoolSize};

const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const PATIENCE: Duration = Duration::from_secs(60);

impl PreviewError {
    /// Returns the name of the reason, without what is particular to it.
    fn code(&self) -> &'static str {
        match self {
            Self::Link => "link_not_supported",
            Self::PrivateAddress => "link_private",
            Self::Redirects => "link_redirects",
            Self::Unreachable(_) => "link_unreachable",
            Self::Status(_) => "link_status",
            Self::Type(_) => "link_type",
            Self::TookTooLong => "link_took_too_long",
            Self::Busy => "busy",
        }
    }
}

/// What a path is answered with.
#[derive(Clone)]
enum Answer {
    /// A type and a body.
    Ok(&'static str, Vec<u8>),
    /// Further headers of an empty answer.
    Head(String),
    /// A body without an end.
    Endless(&'static str),
    /// Nothing, for as long as the client waits.
    Nothing,
}

/// Two servers at one port: one that may be reached, and one that must not.
struct Site {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    intrusions: Arc<AtomicUsize>,
    lookups: Arc<AtomicUsize>,
    fetcher: Fetcher,
}

impl Site {
    /// Starts a site. Headers and pages have `{port}` where its port belongs.
    async fn start(paths: &[(&'static str, Answer)]) -> Self {
        let (public, private, port) = loop {
            let public = TcpListener::bind((PUBLIC, 0)).await.unwrap();
            let port = public.local_addr().unwrap().port();
            // The port may be another's at the other address.
            if let Ok(private) = TcpListener::bind((PRIVATE, port)).await {
                break (public, private, port);
            }
        };
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (intrusions, lookups): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let answers: HashMap<_, _> = paths.iter().cloned().collect();
        tokio::spawn({
            let requests = Arc::clone(&requests);
            async move {
                while let Ok((connection, _)) = public.accept().await {
                    // A client that has read enough leaves.
                    tokio::spawn(serve(connection, answers.clone(), Arc::clone(&requests), port));
                }
            }
        });
        tokio::spawn({
            let intrusions = Arc::clone(&intrusions);
            async move {
                while private.accept().await.is_ok() {
                    intrusions.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let counted = Arc::clone(&lookups);
        let lookup: Lookup = Arc::new(move |host| {
            let count = counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                Ok(match host.as_str() {
                    "site.test" | "other.test" => vec![PUBLIC],
                    "private.test" => vec![PRIVATE],
                    "mixed.test" => vec![PUBLIC, PRIVATE],
                    // Another address for each question.
                    "rebinding.test" if count == 0 => vec![PUBLIC],
                    "rebinding.test" => vec![PRIVATE],
                    _ => Vec::new(),
                })
            })
        });
        let reach = Reach { lookup, address: |address| address == PUBLIC, port: |_| true };
        let fetcher = Fetcher::new(reach, Pool::new(PoolSize::default(), Limits::default())).unwrap();
        Self { port, requests, intrusions, lookups, fetcher }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    async fn fetch(&self, host: &str, path: &str) -> Result<Preview, PreviewError> {
        self.fetcher.fetch(&self.url(host, path)).await
    }

    async fn code(&self, url: &str) -> &'static str {
        self.fetcher.fetch(url).await.map_or_else(|error| error.code(), |_| "fetched")
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn intrusions(&self) -> usize {
        self.intrusions.load(Ordering::SeqCst)
    }
}

async fn serve(
    connection: TcpStream,
    answers: HashMap<&'static str, Answer>,
    requests: Arc<Mutex<Vec<String>>>,
    port: u16,
) -> io::Result<()> {
    let (reader, mut writer) = connection.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut request = String::new();
    while let Some(line) = lines.next_line().await?
        && !line.is_empty()
    {
        request.push_str(&line);
        request.push('\n');
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(request);
    let ok =
        |media_type: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nConnection: close\r\n");
    match answers.get(path.as_str()) {
        Some(Answer::Ok(media_type, body)) => {
            let body = match String::from_utf8(body.clone()) {
                Ok(text) => text.replace("{port}", &port.to_string()).into_bytes(),
                Err(error) => error.into_bytes(),
            };
            let head = format!("{}Content-Length: {}\r\n\r\n", ok(media_type), body.len());
            writer.write_all(&[head.as_bytes(), &body].concat()).await?;
        }
        Some(Answer::Head(head)) => {
            let head = head.replace("{port}", &port.to_string());
            writer.write_all(format!("{head}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
        }
        Some(Answer::Endless(media_type)) => {
            writer.write_all(format!("{}\r\n<title>Endless</title>", ok(media_type)).as_bytes()).await?;
            loop {
                writer.write_all(&[b' '; 16 * 1024]).await?;
            }
        }
        Some(Answer::Nothing) => drop(lines.next_line().await?),
        None => writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?,
    }
    writer.shutdown().await
}

fn page(html: &str) -> Answer {
    Answer::Ok("text/html; charset=utf-8", html.as_bytes().to_vec())
}

fn redirect(to: &str) -> Answer {
    Answer::Head(format!("HTTP/1.1 302 Found\r\nLocation: {to}"))
}

fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::new(600, 300).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn a_page_is_shown_by_what_it_says_of_itself() {
    let html = "<title>plain</title><meta property='og:title' content='A  walk'>
        <meta name=description content='by the sea\r\nand back'><meta property=og:site_name content=Example>
        <meta property=og:image content='/a.png'>";
    let paths = [("/page", page(html)), ("/a.png", Answer::Ok("image/png", png()))];
    let site = Site::start(&paths).await;
    let preview = site.fetch("site.test", "/page").await.unwrap();
    assert_eq!(preview.url.as_str(), site.url("site.test", "/page"));
    assert_eq!(preview.title.unwrap().as_str(), "A walk");
    assert_eq!(preview.description.unwrap().as_str(), "by the sea\nand back");
    assert_eq!(preview.site.unwrap().as_str(), "Example");
    let picture = preview.picture.unwrap();
    assert_eq!([picture.width, picture.height], [600, 300]);
    assert_eq!(picture.thumbnail.content_type, "image/jpeg");

    let requests = site.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let request = request.to_ascii_lowercase();
        assert!(request.contains("user-agent: mozilla/5.0 (compatible; posthousepreview/"), "{request}");
        for header in ["referer:", "cookie:", "authorization:", "accept-encoding: gzip", "x-forwarded"] {
            assert!(!request.contains(header), "{header} in {request}");
        }
    }
}

#[tokio::test]
async fn a_private_address_is_refused_however_it_is_written() {
    let site = Site::start(&[("/", page("<title>a</title>"))]).await;
    let hosts = [
        "private.test",
        "mixed.test",
        "127.0.0.2",
        "127.2",
        "2130706434",
        "0x7f.0x0.0x0.0x2",
        "0177.0.0.02",
        "[::ffff:127.0.0.2]",
        "[::1]",
        "169.254.169.254",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "postgres",
        "chat.tenant-a.svc",
        "chat.tenant-a.svc.cluster.local",
        "metadata.google.internal",
        "printer.local",
    ];
    for host in hosts {
        assert_eq!(site.code(&site.url(host, "/")).await, "link_private", "{host}");
    }
    assert_eq!(site.intrusions(), 0);
    assert_eq!(site.requests().len(), 0, "an address of two is no chance to take");
    assert_eq!(site.code(&site.url("site.test", "/")).await, "fetched");
}

#[tokio::test]
async fn the_internet_has_neither_loopback_nor_other_ports() {
    let pool = Pool::new(PoolSize::default(), Limits::default());
    let fetcher = Fetcher::new(Reach::internet(), pool).unwrap();
    let code = async |link: &str| fetcher.fetch(link).await.map_or_else(|error| error.code(), |_| "fetched");
    assert_eq!(code("http://127.0.0.1/").await, "link_private");
    assert_eq!(code("http://[fd00::1]/").await, "link_private");
    assert_eq!(code("http://8.8.8.8:9092/").await, "link_not_supported");
}

#[tokio::test]
async fn what_is_no_link_to_a_site_is_refused() {
    let site = Site::start(&[]).await;
    let long = site.url("site.test", &format!("/{}", "a".repeat(MAX_URL_BYTES)));
    let links = [
        "",
        "site.test",
        "file:///etc/passwd",
        "ftp://site.test/",
        "gopher://site.test:6379/_FLUSHALL",
        "javascript:alert(1)",
        "data:text/html,<title>a</title>",
        "http://user:password@site.test/",
        "http://user@site.test/",
        "http://",
        &long,
    ];
    for link in links {
        assert_eq!(site.code(link).await, "link_not_supported", "{link}");
    }
    assert_eq!(site.lookups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_checked_like_the_link() {
    let paths = [
        ("/name", redirect("http://private.test:{port}/")),
        ("/address", redirect("http://127.0.0.2:{port}/")),
        ("/scheme", redirect("file:///etc/passwd")),
        ("/password", redirect("http://a:b@site.test:{port}/")),
        ("/loop", redirect("/loop")),
        ("/nowhere", Answer::Head("HTTP/1.1 301 Moved Permanently".to_owned())),
        ("/1", redirect("/2")),
        ("/2", redirect("//other.test:{port}/3")),
        ("/3", redirect("http://site.test:{port}/4")),
        ("/4", redirect("5")),
        ("/5", page("<title>Here</title>")),
        ("/0", redirect("/1")),
    ];
    let site = Site::start(&paths).await;
    let cases = [
        ("/name", "link_private"),
        ("/address", "link_private"),
        ("/scheme", "link_not_supported"),
        ("/password", "link_not_supported"),
        ("/loop", "link_redirects"),
        ("/nowhere", "link_redirects"),
        ("/0", "link_redirects"),
        ("/1", "fetched"),
    ];
    for (path, expected) in cases {
        assert_eq!(site.code(&site.url("site.test", path)).await, expected, "{path}");
    }
    assert_eq!(site.intrusions(), 0);
    let preview = site.fetch("site.test", "/1").await.unwrap();
    assert_eq!(preview.url.as_str(), site.url("site.test", "/5"));
}

#[tokio::test]
async fn a_name_that_changes_its_address_leads_nowhere_else() {
    let paths =
        [("/", redirect("http://rebinding.test:{port}/secret")), ("/secret", page("<title>a</title>"))];
    let site = Site::start(&paths).await;
    let error = site.fetch("rebinding.test", "/").await.unwrap_err();
    assert!(matches!(error, PreviewError::PrivateAddress), "{error:?}");
    // One question for each connection: what was checked is what was connected to.
    assert_eq!(site.lookups.load(Ordering::SeqCst), 2);
    assert_eq!(site.requests().len(), 1);
    assert_eq!(site.intrusions(), 0);
}

#[tokio::test]
async fn a_picture_on_a_private_address_is_left_out() {
    let html = "<title>Mine</title><meta property=og:image content='http://private.test:{port}/a.png'>";
    let site = Site::start(&[("/", page(html))]).await;
    let preview = site.fetch("site.test", "/").await.unwrap();
    assert_eq!(preview.title.unwrap().as_str(), "Mine");
    assert!(preview.picture.is_none());
    assert_eq!(site.intrusions(), 0);
}

#[tokio::test]
async fn a_page_without_an_end_is_read_as_far_as_its_head() {
    let site =
        Site::start(&[("/", Answer::Endless("text/html")), ("/png", Answer::Endless("image/png"))]).await;
    let preview = site.fetch("site.test", "/").await.unwrap();
    assert_eq!(preview.title.unwrap().as_str(), "Endless");
    assert_eq!(site.code(&site.url("site.test", "/png")).await, "link_type");
}

#[tokio::test]
async fn a_page_that_never_comes_is_given_up() {
    let mut site = Site::start(&[("/", Answer::Nothing)]).await;
    site.fetcher.within = Duration::from_millis(50);
    assert_eq!(site.code(&site.url("site.test", "/")).await, "link_took_too_long");
}

#[tokio::test]
async fn a_link_to_a_picture_shows_it_and_one_to_another_file_nothing() {
    let paths = [
        ("/a.png", Answer::Ok("image/png", png())),
        ("/b.png", Answer::Ok("image/png", b"<svg onload='alert(1)'/>".to_vec())),
        ("/c.jpg", Answer::Ok("image/jpeg", png())),
        ("/d.svg", Answer::Ok("image/svg+xml", b"<svg/>".to_vec())),
        ("/e.zip", Answer::Ok("application/zip", b"PK\x03\x04".to_vec())),
        ("/f", Answer::Head("HTTP/1.1 200 OK".to_owned())),
        (
            "/g",
            Answer::Head("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip".to_owned()),
        ),
        ("/h", Answer::Head("HTTP/1.1 500 Internal Server Error".to_owned())),
    ];
    let site = Site::start(&paths).await;
    let preview = site.fetch("site.test", "/a.png").await.unwrap();
    assert!(preview.title.is_none() && preview.picture.is_some());
    let cases = [
        ("/b.png", "link_type"),
        ("/c.jpg", "link_type"),
        ("/d.svg", "link_type"),
        ("/e.zip", "link_type"),
        ("/f", "link_type"),
        ("/g", "link_type"),
        ("/h", "link_status"),
        ("/none", "link_status"),
    ];
    for (path, expected) in cases {
        assert_eq!(site.code(&site.url("site.test", path)).await, expected, "{path}");
    }
    assert_eq!(site.code("http://unknown.test/").await, "link_unreachable");
}

#[tokio::test]
async fn the_text_of_a_page_cannot_harm_who_reads_it() {
    let long = "a".repeat(300);
    let paths = [
        ("/long", page(&format!("<title>{long}</title><meta name=description content='{long}{long}'>"))),
        ("/bidi", page("<title>safe \u{202e}gpj.exe</title>")),
        ("/control", page("<title>a\x1b[31mb</title>")),
        ("/markup", page("<title>&lt;script&gt;alert(1)&lt;/script&gt;</title>")),
    ];
    let site = Site::start(&paths).await;
    let preview = site.fetch("site.test", "/long").await.unwrap();
    assert_eq!(preview.title.unwrap().as_str().len(), 200);
    assert_eq!(preview.description.unwrap().as_str().len(), 500);
    for path in ["/bidi", "/control"] {
        assert!(site.fetch("site.test", path).await.unwrap().title.is_none(), "{path}");
    }
    // It is text, and clients show it as text.
    let preview = site.fetch("site.test", "/markup").await.unwrap();
    assert_eq!(preview.title.unwrap().as_str(), "<script>alert(1)</script>");
}

#[tokio::test]
async fn only_so_many_previews_are_fetched_at_a_time() {
    let site = Site::start(&[("/", Answer::Nothing), ("/page", page("<title>a</title>"))]).await;
    let fetches: Vec<_> = (0..MAX_FETCHES)
        .map(|_| {
            let (fetcher, url) = (site.fetcher.clone(), site.url("site.test", "/"));
            tokio::spawn(async move { fetcher.fetch(&url).await.map(drop) })
        })
        .collect();
    let all = || async { (site.fetcher.fetches.available_permits() == 0).then_some(()) };
    kit::testing::wait_for("all fetches", PATIENCE, all).await;
    assert_eq!(site.code(&site.url("site.test", "/page")).await, "busy");
    fetches.iter().for_each(tokio::task::JoinHandle::abort);
    let free = || async { (site.fetcher.fetches.available_permits() == MAX_FETCHES).then_some(()) };
    kit::testing::wait_for("the end of all fetches", PATIENCE, free).await;
    assert_eq!(site.code(&site.url("site.test", "/page")).await, "fetched");
}

#[tokio::test]
async fn an_error_does_not_name_the_link() {
    let site = Site::start(&[]).await;
    let listener = TcpListener::bind((PUBLIC, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = site.fetcher.fetch(&format!("http://site.test:{port}/?secret")).await.unwrap_err();
    assert_eq!(error.code(), "link_unreachable");
    let chain = kit::error::chain(&error);
    assert!(!chain.contains("secret") && !chain.contains("site.test"), "{chain}");
}
