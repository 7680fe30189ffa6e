//! A browser as far as sign-in needs one: it keeps cookies, fills in forms, and follows nothing by itself.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// A page or redirect.
#[derive(Debug, Clone)]
pub struct Page {
    pub status: u16,
    /// Lower-case names in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Page {
    /// The first value of a header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Where it redirects to; empty when it does not.
    pub fn location(&self) -> &str {
        self.header("location")
    }

    /// A parameter of the place that it redirects to.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(self.location()).ok()?;
        url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    /// The value of a hidden field.
    pub fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let from = self.body.find(&start).map(|at| at + start.len());
        let rest = from.and_then(|from| self.body.get(from..)).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    }
}

/// One browser.
#[derive(Debug)]
pub struct Browser {
    client: reqwest::Client,
    /// By path and name.
    cookies: Mutex<BTreeMap<(String, String), String>>,
}

impl Browser {
    pub fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        Self { client: client.expect("a client"), cookies: Mutex::default() }
    }

    /// The cookies that it holds.
    pub fn cookies(&self) -> BTreeMap<String, String> {
        let cookies = self.cookies.lock().expect("the cookies");
        cookies.iter().map(|((_, name), value)| (name.clone(), value.clone())).collect()
    }

    /// Forgets every cookie.
    pub fn forget(&self) {
        self.cookies.lock().expect("the cookies").clear();
    }

    /// Goes to a URL that a person typed or another application opened.
    pub async fn go(&self, url: &str) -> Page {
        self.go_with(url, &[("sec-fetch-site", "none")]).await
    }

    /// The same with these headers.
    pub async fn go_with(&self, url: &str, headers: &[(&str, &str)]) -> Page {
        self.send(self.client.get(url), headers).await
    }

    /// Sends a form of a page of the gateway's own.
    pub async fn submit(&self, url: &str, form: &[(&str, &str)]) -> Page {
        self.submit_with(url, form, &[("sec-fetch-site", "same-origin")]).await
    }

    /// The same with these headers.
    pub async fn submit_with(&self, url: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Page {
        self.send(self.client.post(url).form(form), headers).await
    }

    async fn send(&self, mut request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> Page {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.build().expect("a request");
        let cookies = self.cookies_for(request.url().path());
        if !cookies.is_empty() && !request.headers().contains_key("cookie") {
            request.headers_mut().insert("cookie", cookies.parse().expect("a header"));
        }
        let answer = self.client.execute(request).await.expect("an answer");
        let headers: Vec<(String, String)> = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let status = answer.status().as_u16();
        let page = Page { status, headers, body: answer.text().await.expect("a body") };
        page.all("set-cookie").into_iter().for_each(|cookie| self.keep(cookie));
        page
    }

    /// The cookies for a path, in the form of their header.
    fn cookies_for(&self, path: &str) -> String {
        let cookies = self.cookies.lock().expect("the cookies");
        let fitting = cookies.iter().filter(|((under, _), _)| path.starts_with(under.as_str()));
        fitting.map(|((_, name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep(&self, cookie: &str) {
        let mut attributes = cookie.split("; ");
        let (name, value) = attributes.next().and_then(|pair| pair.split_once('=')).expect("a cookie");
        let path =
            attributes.find_map(|attribute| attribute.to_lowercase().starts_with("path=").then(|| &attribute[5..]));
        let key = (path.unwrap_or("/").to_owned(), name.to_owned());
        let mut cookies = self.cookies.lock().expect("the cookies");
        if cookie.contains("Max-Age=0") || cookie.contains("01 Jan 1970") {
            cookies.remove(&key);
        } else {
            cookies.insert(key, value.to_owned());
        }
    }
}
