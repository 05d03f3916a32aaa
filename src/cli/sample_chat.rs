//! The demo's chat service: what a user's service behind the gateway looks like. Speaks HTTP only: receives events of
//! the endpoint `/chat/{room}`, pushes each message to everyone in the room through any gateway node. Keeps the rooms
//! in memory; knows nothing of WebSockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use actix_web::{web, App, HttpRequest, HttpResponse, HttpServer};
use clap::Args;
use serde_json::{json, Value};

use super::http::{client, post};

#[derive(Args)]
pub struct SampleChat {
    /// Where the service listens
    #[arg(long)]
    listen: String,
    /// Admin listeners of the gateway, comma separated
    #[arg(long, value_delimiter = ',')]
    gateways: Vec<String>,
}

/// Who is where. A name belongs to a connection.
#[derive(Default)]
struct Rooms {
    members: Mutex<BTreeMap<String, BTreeSet<String>>>,
    names: Mutex<BTreeMap<String, (String, String)>>,
}

struct Chat {
    rooms: Rooms,
    gateways: Vec<String>,
}

impl Rooms {
    fn join(&self, room: &str, connection: &str, name: &str) {
        lock(&self.members).entry(room.to_owned()).or_default().insert(connection.to_owned());
        lock(&self.names).insert(connection.to_owned(), (room.to_owned(), name.to_owned()));
    }

    fn leave(&self, connection: &str) -> Option<(String, String)> {
        let (room, name) = lock(&self.names).remove(connection)?;
        let mut members = lock(&self.members);
        if let Some(room) = members.get_mut(&room) {
            room.remove(connection);
        }
        Some((room, name))
    }

    fn find(&self, connection: &str) -> Option<(String, String)> {
        lock(&self.names).get(connection).cloned()
    }

    fn in_room(&self, room: &str) -> Vec<String> {
        lock(&self.members).get(room).map(|members| members.iter().cloned().collect()).unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl SampleChat {
    pub fn run(self) -> anyhow::Result<()> {
        let chat = web::Data::new(Chat { rooms: Rooms::default(), gateways: self.gateways });
        actix_rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(chat.clone())
                    .route("/connect", web::post().to(connect))
                    .route("/disconnect", web::post().to(disconnect))
                    .route("/message", web::post().to(message))
            });
            server.workers(1).bind(&self.listen)?.run().await
        })?;
        Ok(())
    }
}

async fn connect(chat: web::Data<Chat>, event: web::Json<Value>) -> HttpResponse {
    let (Some(connection), Some(room)) = (event["connectionId"].as_str(), event["params"]["room"].as_str()) else {
        return HttpResponse::BadRequest().finish();
    };
    let name = event["query"]["name"].as_str().unwrap_or("anonymous");
    chat.rooms.join(room, connection, name);
    // The connection is not open before this answer: it hears of itself a moment later, like the others.
    let (chat, room) = (chat.clone(), room.to_owned());
    let joined = json!({"type": "joined", "name": name, "room": room});
    actix_rt::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        tell(&chat, &room, &joined).await;
    });
    HttpResponse::NoContent().finish()
}

async fn disconnect(chat: web::Data<Chat>, event: web::Json<Value>) -> HttpResponse {
    let left = event["connectionId"].as_str().and_then(|connection| chat.rooms.leave(connection));
    if let Some((room, name)) = left {
        tell(&chat, &room, &json!({"type": "left", "name": name, "room": room})).await;
    }
    HttpResponse::NoContent().finish()
}

async fn message(chat: web::Data<Chat>, request: HttpRequest, event: web::Json<Value>) -> HttpResponse {
    let connection = request.headers().get("ce-connectionid").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((room, name)) = chat.rooms.find(connection) else { return HttpResponse::NotFound().finish() };
    let text = event.get("text").cloned().unwrap_or_else(|| event.clone());
    tell(&chat, &room, &json!({"type": "message", "from": name, "room": room, "text": text})).await;
    HttpResponse::NoContent().finish()
}

/// Pushes to everyone in the room; who is gone is forgotten.
async fn tell(chat: &Chat, room: &str, message: &Value) {
    let client = client();
    for (turn, connection) in chat.rooms.in_room(room).into_iter().enumerate() {
        // Any node will do; take turns, and the next one when a node is down.
        for attempt in 0..chat.gateways.len() {
            let gateway = &chat.gateways[(turn + attempt) % chat.gateways.len()];
            let pushed =
                post(&client, &format!("{gateway}/api/v1/connections/{connection}"), message.to_string()).await;
            match pushed {
                Ok((410, _)) => drop(chat.rooms.leave(&connection)),
                Ok((503, _)) | Err(_) => continue,
                Ok(_) => {}
            }
            break;
        }
    }
}
