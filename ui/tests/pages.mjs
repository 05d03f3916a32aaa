// Drives every page and every act of the UI against a running cluster, in Chromium, and looks at each page with axe in
// light and dark.
//
//   UI_URL=http://127.0.0.1:9001 ADMIN_TOKEN=… node tests/pages.mjs [part of a test's name]
//
// UI_URL is the admin address of a node that serves /ui/ (or of dev/serve.mjs). Without ADMIN_TOKEN the node must let
// calls without a token in. It makes what it needs below /ui-test-… and takes it away again. Clients must be able to
// connect to the addresses that GET /api/v1/cluster names. No node is drained or removed, unless DRAIN_NODE names one: a voter
// that another node of the cluster can stand in for (four nodes), and which does not come back.
// Meanwhile some twenty clients send some hundred events a second to all nodes (LOAD=0: none), so that pages are looked at
// while they change.
import access from './pages/access.mjs';
import axe from './pages/axe.mjs';
import cluster from './pages/cluster.mjs';
import connections from './pages/connections.mjs';
import consoles from './pages/console.mjs';
import editor from './pages/editor.mjs';
import endpoints from './pages/endpoints.mjs';
import live from './pages/live.mjs';
import overview from './pages/overview.mjs';
import shell from './pages/shell.mjs';
import { begin, runAll } from './rig.mjs';

await begin();
// The cluster comes last: a node less is there then.
const failed = await runAll({ ...shell, ...endpoints, ...editor, ...connections, ...consoles, ...access, ...overview, ...live, ...axe, ...cluster }, process.argv[2]);
process.exit(failed ? 1 : 0);
