// Where a new endpoint begins. The documents are written so that only what is in capitals must be changed.

export interface Template {
  id: string;
  name: string;
  what: string;
  document: string;
}

export const TEMPLATES: Template[] = [
  {
    id: 'echo',
    name: 'Echo',
    what: 'Answers each message with itself. Nothing else is needed: good for a first look and for testing clients.',
    document: `{
  "path": "/echo",
  "name": "Echo",
  "routes": [
    {"type": "default", "name": "Echo", "backends": [{"type": "echo"}]}
  ]
}
`,
  },
  {
    id: 'http',
    name: 'HTTP service',
    what: 'A service hears of connections, gets each message as a POST, and answers with pushes or replies.',
    document: `{
  "path": "/service",
  "name": "My service",
  "routes": [
    {"type": "connect", "name": "Connect", "backends": [{"type": "http", "destination": "http://127.0.0.1:3000/connect"}]},
    {
      "type": "default",
      "name": "Message",
      "backends": [{"type": "http", "destination": "http://127.0.0.1:3000/message", "timeoutInMillis": 1500, "reply": true}]
    },
    {"type": "disconnect", "name": "Disconnect", "backends": [{"type": "http", "destination": "http://127.0.0.1:3000/disconnect"}]}
  ]
}
`,
  },
  {
    id: 'kafka',
    name: 'Kafka topic',
    what: 'Each message becomes a record of a topic, keyed by its connection, and is acknowledged when the brokers have it.',
    document: `{
  "path": "/events",
  "name": "Events",
  "ack": {"when": "delivered"},
  "routes": [
    {
      "type": "default",
      "name": "Topic",
      "backends": [{"type": "kafka", "topic": "events", "bootstrapServers": "127.0.0.1:9092"}]
    }
  ]
}
`,
  },
];
