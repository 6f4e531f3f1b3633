//! A browser, as far as the pages of a realm need one: it keeps cookies, follows redirects and sends forms.

use std::collections::BTreeMap;

use reqwest::{
    Client, Response, Url,
    header::{COOKIE, LOCATION, SET_COOKIE},
    redirect::Policy,
};

/// Pages of one sign-in are fewer.
const MAX_STEPS: usize = 20;

/// Keeps cookies by their path.
pub struct Browser {
    http: Client,
    cookies: BTreeMap<(String, String), String>,
}

/// Where a browser is.
#[derive(Debug)]
pub enum Place {
    /// A page of the realm.
    Page { url: Url, html: String },
    /// It was sent to an address that is not the realm's.
    Elsewhere(String),
}

impl Browser {
    pub fn new() -> Self {
        let http = Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { http, cookies: BTreeMap::new() }
    }

    /// Opens a page, and follows redirects as long as they lead to the same host.
    pub async fn open(&mut self, url: &str) -> Place {
        let url: Url = url.parse().expect("a URL");
        let response = self.http.get(url.clone()).header(COOKIE, self.header(&url)).send().await;
        self.follow(url, response.expect("the realm answers")).await
    }

    /// Sends the form of a page.
    pub async fn submit(&mut self, page: &Place, fields: &[(&str, &str)]) -> Place {
        let Place::Page { url, html } = page else { panic!("no page: {page:?}") };
        let action = html.split("<form").nth(1).and_then(|form| form.split("action=\"").nth(1));
        let action = action.and_then(|rest| rest.split('"').next());
        let action = action.unwrap_or_else(|| panic!("no form at {url}: {html}")).replace("&amp;", "&");
        let url = url.join(&action).expect("a URL");
        let request = self.http.post(url.clone()).header(COOKIE, self.header(&url)).form(fields);
        let response = request.send().await.expect("the realm answers");
        self.follow(url, response).await
    }

    async fn follow(&mut self, mut url: Url, mut response: Response) -> Place {
        for _ in 0..MAX_STEPS {
            self.keep(&url, &response);
            let Some(location) = response.headers().get(LOCATION) else {
                let html = response.text().await.expect("a page");
                return Place::Page { url, html };
            };
            let next = url.join(location.to_str().expect("text")).expect("a URL");
            if next.origin() != url.origin() {
                return Place::Elsewhere(next.into());
            }
            url = next;
            let request = self.http.get(url.clone()).header(COOKIE, self.header(&url));
            response = request.send().await.expect("the realm answers");
        }
        panic!("too many redirects, the last to {url}");
    }

    fn keep(&mut self, url: &Url, response: &Response) {
        for cookie in response.headers().get_all(SET_COOKIE) {
            let mut parts = cookie.to_str().expect("text").split(';').map(str::trim);
            let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            let path = parts.clone().find_map(|part| part.strip_prefix("Path=")).unwrap_or(url.path());
            let key = (name.to_owned(), path.to_owned());
            if value.is_empty() || parts.any(|part| part == "Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
    }

    fn header(&self, url: &Url) -> String {
        let fitting = self.cookies.iter().filter(|((_, path), _)| url.path().starts_with(path.as_str()));
        let pairs: Vec<_> = fitting.map(|((name, _), value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }
}
