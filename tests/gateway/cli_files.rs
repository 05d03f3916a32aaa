//! Endpoint files in YAML and JSON: what `check` says about them and where, and the admin API's bodies in YAML.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::{out, run};
use crate::sandbox::{run_folder, shared, unique_path};
use crate::ws::Client;

/// Writes a file of a test's own.
pub fn file(folder: &str, name: &str, text: &str) -> PathBuf {
    let folder = run_folder().join(folder);
    std::fs::create_dir_all(&folder).expect("a folder for files");
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the folder takes a file");
    path
}

#[tokio::test]
async fn check_points_to_the_line_of_the_file() {
    let yaml = file("check-lines", "a.yaml", "path: /a\n# a comment\nsettings:\n  heartbeatIntervalInSeconds: 2\nroutes:\n  - type: custom\n    name: x\n    key: a\n    keey: b\n");
    let json = file("check-lines", "b.json", "{\"path\": \"/b\",\n \"routes\": [\n  {\"type\": \"nope\"}]}");
    file("check-lines", "ignored.txt", "not an endpoint file");
    let folder = yaml.parent().expect("its folder").display().to_string();
    let refused = run(&["check", &folder], &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = out(&refused);
    for line in [
        format!("{}:4:3: settings.heartbeatIntervalInSeconds: must be 5–60, is 2", yaml.display()),
        format!("{}:9:5: routes[0].keey: unknown field \"keey\"; did you mean \"key\"?", yaml.display()),
        format!("{}:3:4: routes[0].type: must be one of", json.display()),
        format!("{}:3:3: routes[0]: needs the field \"name\"", json.display()),
    ] {
        assert!(text.contains(&line), "{line:?} is missing in\n{text}");
    }
    assert!(!text.contains("ignored.txt"), "{text}");
    for (name, content, line) in [
        ("twice.yaml", "path: /a\nname: b\npath: /c\n", ":3:1: path: is given twice"),
        ("tag.yaml", "path: /a\nname: !secret b\n", ":2:7: name: has the tag"),
        ("broken.yaml", "path: [/a\nname: b\n", ": (document): the document is not YAML"),
        ("broken.json", "{\"path\": \"/a\",\n \"name\": }", ":2:10: (document): the document is not JSON"),
        ("empty.yaml", "# nothing\n", ": (document): the document is empty"),
    ] {
        let path = file("check-slips", name, content);
        let refused = run(&["check", &path.display().to_string()], &[]).await;
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(
            out(&refused).contains(&format!("{}{line}", path.display())) || out(&refused).contains(line),
            "{name}: {}",
            out(&refused)
        );
    }
    // In YAML 1.2 "no" is a text, and a label is one.
    let no = file("check-fine", "no.yml", "path: /no\nname: no\n");
    let fine = run(&["check", &no.display().to_string()], &[]).await;
    assert!(fine.status.success(), "{}", out(&fine));
}

#[tokio::test]
async fn the_admin_api_takes_yaml() {
    let cluster = shared().await;
    let path = unique_path("yaml");
    let admin = cluster.nodes[1].admin();
    let yaml = [("content-type", "application/yaml; charset=utf-8")];
    let document = format!(
        "path: {path}\nname: no\nroutes:\n  - &echo\n    type: default\n    name: d\n    backends: [{{type: echo}}]\n"
    );
    let created = admin.call("POST", "/api/v1/endpoints", &yaml, document.as_bytes()).await.expect(201).json();
    let expected = json!({"path": path, "name": "no", "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]});
    assert_eq!(created["document"], expected, "stored as JSON");
    let id = created["id"].as_str().expect("an id");
    cluster.wait_version(id, 1).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    client.send("{\"n\":1}").await;
    assert_eq!(client.text().await, "{\"n\":1}");

    let target = format!("/api/v1/endpoints/{id}");
    let broken = document.replace("type: echo", "type: echoo");
    for (method, target) in [("PUT", target.as_str()), ("POST", "/api/v1/endpoints")] {
        let refused = admin.call(method, target, &yaml, broken.as_bytes()).await.expect(400).json();
        assert_eq!(refused["errors"][0]["path"], "routes[0].backends[0].type", "{refused}");
    }
    let twice = admin.call("PUT", &target, &yaml, b"path: /a\npath: /b\n").await.expect(400).json();
    assert_eq!((&twice["code"], &twice["errors"][0]["path"]), (&json!("invalid_document"), &json!("path")));
    assert!(twice["detail"].as_str().is_some_and(|detail| detail.contains("line 2, column 1")), "{twice}");
    let tests = admin.call("PUT", &target, &yaml, b"path: /a\ntests: []\n").await.expect(400).json();
    assert_eq!(tests["errors"][0]["path"], "tests");
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    admin.call("PUT", &target, &yaml, bomb.as_bytes()).await.expect(400);
    for wrong in ["text/plain", "application/xml", "multipart/form-data", "nonsense"] {
        for (method, target) in [("PUT", target.as_str()), ("POST", "/api/v1/endpoints")] {
            let refused = admin.call(method, target, &[("content-type", wrong)], document.as_bytes()).await;
            assert_eq!(refused.expect(415).json()["code"], "unsupported_media_type", "{wrong}");
        }
    }
    let updated = document.replace("name: d", "name: e");
    let updated = admin.call("PUT", &target, &yaml, updated.as_bytes()).await.expect(200).json();
    assert_eq!(updated["activeVersion"], 2);
}
