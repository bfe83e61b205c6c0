// `flatmin dashboard`: watches a run in the browser, whichever process trains it, and can ask it to stop.
import { once } from 'node:events';
import { z } from 'zod';
import { readStoredRun, titleOf } from '../../report/runs.js';
import { defineCommand } from '../command.js';
import { dashboardFields, openDashboard } from '../dashboard/open.js';

export const dashboardCommand = defineCommand({
  name: 'dashboard',
  summary: 'watch a run in the browser: live curves, time left, log, and a stop button',
  operands: [{ name: '<run>', description: 'run folder of a run in progress, or of one that has ended' }],
  details: `The page is served on 127.0.0.1 only, under an address that holds a random token; whoever has the address may watch and stop
the run. For a run on another machine: ssh -L 8000:127.0.0.1:8000 HOST flatmin dashboard RUN --port 8000. Ctrl-C ends the
dashboard, not the run.

Examples:
  flatmin dashboard runs/asam --open
  flatmin train --optimizer asam --dashboard`,
  schema: z.strictObject(dashboardFields),
  async run(options, { output, operands: [runDir = ''] }) {
    const title = titleOf([readStoredRun(runDir)]);
    const dashboard = await openDashboard({ runDir, title, ...options }, output);
    await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
    await dashboard.close();
  },
});
