// The documentation's pages, for the search. They are read where the source is: a node serves none.

const BASE = 'https://github.com/wsgateway/wsgateway/blob/main/docs/';

export interface Doc {
  title: string;
  /** What one may look for, beside the title. */
  words: string;
  href: string;
}

const PAGES: [file: string, title: string, words: string][] = [
  ['endpoint-document', 'The endpoint document', 'settings fields routes backends configuration json'],
  ['http-api', 'The HTTP API', 'admin calls openapi errors'],
  ['command-line', 'The command line', 'wsgateway ws check apply tail demo'],
  ['walkthrough', 'A walk-through: from a file to a running endpoint', 'yaml tutorial begin'],
  ['clients', 'Clients', 'reconnect close codes frames library javascript'],
  ['authentication', 'Authentication of clients', 'jwt token signature authorizer handshake'],
  ['access', 'Access: tokens, roles, the audit log', 'admin viewer editor publisher'],
  ['push', 'Pushes to many', 'broadcast group user coalesce'],
  ['receipts', 'Receipts of pushes', 'confirm written acknowledgement'],
  ['delivery', 'Delivery: attempts, order, failure', 'retry breaker batch ordering timeout'],
  ['dead-letters', 'Dead letters', 'replay failed'],
  ['templates', 'Templates, schemas, acknowledgements, replies', 'transform ack jsonschema'],
  ['throttling', 'Throttling', 'limits rate burst'],
  ['kafka', 'Kafka', 'topic record sasl source consumer'],
  ['egress', 'Where a node may call', 'egress rules private addresses metadata'],
  ['secrets', 'Secrets in endpoint documents', 'encrypted environment'],
  ['tls', 'TLS, load balancers and limits of an address', 'certificate proxy protocol'],
  ['resume', 'Resume', 'reconnect lost messages session'],
  ['explain', 'Explain: a dry run of one event', 'why route'],
  ['operations', 'Operations', 'metrics prometheus logs drain upgrade backup settings'],
  ['recovery', 'Three in the morning', 'runbook disaster quorum lost restore'],
  ['scaling', 'Scaling', 'nodes size connections memory'],
  ['performance', 'Performance', 'latency benchmark figures'],
  ['reliability', 'Reliability: figures of the cluster', 'failover availability'],
  ['testing', 'Testing', 'tests of endpoints'],
  ['chaos', 'The chaos suite', 'faults'],
  ['ARCHITECTURE', 'Architecture', 'source code map raft gossip'],
  ['ui', 'The admin UI', 'pages keys'],
];

const DOCS: Doc[] = PAGES.map(([file, title, words]) => ({ title, words, href: `${BASE}${file}.md` }));

/** Those that have all of the words. */
export function findDocs(text: string): Doc[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  return DOCS.filter((doc) => words.every((word) => `${doc.title} ${doc.words}`.toLowerCase().includes(word)));
}
