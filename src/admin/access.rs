//! Lets requests in, or not: who calls is the tokens' to say ([`crate::access`]), what that allows is in [`super::rules`].
//! A token comes as `Authorization: Bearer <token>` or as `X-Api-Key: <token>`.

use std::future::{ready, Ready};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{forward_ready, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{HeaderMap, AUTHORIZATION};
use actix_web::http::Method;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse};
use futures::future::{FutureExt, LocalBoxFuture};

use super::body::read_body;
use super::problem::Problem;
use super::rules::{self, Found, Rule};
use crate::access::tokens::Refusal;
pub use crate::access::Caller;
use crate::access::{Role, Tokens};
use crate::telemetry::metrics::{AdminRefusalLabels, Metrics};

/// Wins over Authorization, which AWS SDKs fill with a signature of their own.
const API_KEY: &str = "x-api-key";

/// Of the body of a GET this much is kept for a moment, and 64 times as much is read.
const UNWANTED_BODY_BYTES_MAX: usize = 1024;

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(API_KEY) {
        // What is no text is no token either, but it was shown.
        return Some(key.to_str().unwrap_or_default().trim());
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// What a request has shown, for whoever goes on answering it: a token may end before the answer does.
pub struct Shown {
    tokens: Arc<Tokens>,
    token: Option<String>,
    from: IpAddr,
}

impl Shown {
    /// The same for the same token, and for all who show none.
    pub fn whose(&self) -> u64 {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        HASHER.hash_one(&self.token)
    }

    /// Whether it still lets in one of this role. A node that does not know yet has let it in before.
    pub fn still_allows(&self, needed: Role) -> bool {
        match self.tokens.identify(self.token.as_deref(), self.from) {
            Ok(caller) => caller.role >= needed,
            Err(refusal) => matches!(refusal, Refusal::NotReady),
        }
    }
}

/// Checks the token of every request that it wraps.
#[derive(Clone)]
pub struct Access {
    tokens: Arc<Tokens>,
    metrics: Metrics,
}

impl Access {
    pub fn new(tokens: Arc<Tokens>, metrics: Metrics) -> Access {
        Access { tokens, metrics }
    }

    pub fn shown(&self, request: &HttpRequest) -> Shown {
        let token = shown(request.headers()).map(str::to_owned);
        Shown { tokens: self.tokens.clone(), token, from: peer(request) }
    }

    /// Who calls, if that one has the role; for pushes, whose rule is known without looking it up.
    pub fn check(&self, request: &HttpRequest, needed: Role) -> Result<Caller, Problem> {
        let caller = self.identify(request)?;
        match caller.role >= needed {
            true => Ok(caller),
            false => Err(forbidden(&caller, needed)),
        }
    }

    fn identify(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let from = peer(request);
        self.tokens.identify(shown(request.headers()), from).map_err(|refusal| {
            if matches!(refusal, Refusal::Expired | Refusal::Invalid | Refusal::TooManyGuesses { .. }) {
                tracing::debug!(%from, ?refusal, "a token was refused");
            }
            refusal.into()
        })
    }

    /// As the middleware does it; for calls whose errors have a shape of their own.
    pub fn enter(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        match self.admit(request) {
            Ok((caller, _)) => {
                request.extensions_mut().insert(caller.clone());
                Ok(caller)
            }
            Err(problem) => {
                self.count_refused(problem.status());
                Err(problem)
            }
        }
    }

    /// What the table says, once the caller is known: strangers do not learn what is there.
    fn admit(&self, request: &HttpRequest) -> Result<(Caller, &'static Rule), Problem> {
        let caller = self.identify(request)?;
        let path = request.match_info().as_str();
        let rule = match rules::find(request.method().as_str(), path) {
            Found::Rule(rule) => rule,
            Found::OtherMethod => return Err(method_not_allowed(request)),
            Found::Nothing => return Err(not_found(request)),
        };
        match *rule {
            Rule { role: Some(needed), .. } if caller.role < needed => {
                tracing::warn!(author = %caller.name, method = rule.method, path, %needed, "refused");
                Err(forbidden(&caller, needed))
            }
            _ => Ok((caller, rule)),
        }
    }

    /// A write is done, or refused: the node's own log says so too.
    fn report<B>(&self, caller: &Caller, rule: &Rule, answer: &ServiceResponse<B>) {
        let status = answer.status().as_u16();
        let (author, method, path) = (&*caller.name, rule.method, answer.request().path());
        match answer.status().is_success() {
            true if rule.role >= Some(Role::Editor) => tracing::info!(author, method, path, status, "done"),
            true => {}
            false => {
                tracing::warn!(author, method, path, status, "refused");
                self.count_refused(status);
            }
        }
    }

    fn count_refused(&self, status: u16) {
        self.metrics.admin_refused.get_or_create(&AdminRefusalLabels { status: status.into() }).inc();
    }
}

/// A TCP listener's requests have an address.
fn peer(request: &HttpRequest) -> IpAddr {
    request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip())
}

/// Who made this request; known behind [`Access`] only.
pub fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Problem::new(401, "unauthenticated", "nobody has checked who calls"))
}

pub fn forbidden(caller: &Caller, needed: Role) -> Problem {
    let detail = format!("this needs the role {needed}; {} has {}", caller.name, caller.role);
    Problem::new(403, "forbidden", detail)
}

pub fn method_not_allowed(request: &HttpRequest) -> Problem {
    let allow = rules::methods(request.match_info().as_str());
    let detail = format!("{} is not for {}; allowed: {allow}", request.method(), request.path());
    Problem::new(405, "method_not_allowed", detail).allowing(allow)
}

pub fn not_found(request: &HttpRequest) -> Problem {
    Problem::new(404, "not_found", format!("there is nothing at {} {}", request.method(), request.path()))
}

impl<S, B> Transform<S, ServiceRequest> for Access
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Transform = AccessService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(AccessService { service: Rc::new(service), access: Rc::new(self.clone()) }))
    }
}

pub struct AccessService<S> {
    service: Rc<S>,
    access: Rc<Access>,
}

impl<S, B> Service<ServiceRequest> for AccessService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let admitted = self.access.admit(request.request());
        if let Ok((caller, _)) = &admitted {
            request.extensions_mut().insert(caller.clone());
        }
        match admitted {
            Ok((_, rule)) if rule.method == Method::GET => {
                let (payload, service) = (request.take_payload(), self.service.clone());
                async move {
                    // Nobody reads it, and a socket that is closed with bytes unread takes a long answer with it.
                    let _no_body_is_expected = read_body(payload, UNWANTED_BODY_BYTES_MAX).await;
                    Ok(service.call(request).await?.map_into_left_body())
                }
                .boxed_local()
            }
            Ok((caller, rule)) => {
                let access = self.access.clone();
                let answered = self.service.call(request);
                async move {
                    let answer = answered.await?;
                    access.report(&caller, rule, &answer);
                    Ok(answer.map_into_left_body())
                }
                .boxed_local()
            }
            Err(problem) => {
                self.access.count_refused(problem.status());
                let refused = request.into_response(HttpResponse::from(problem)).map_into_right_body();
                ready(Ok(refused)).boxed_local()
            }
        }
    }
}
