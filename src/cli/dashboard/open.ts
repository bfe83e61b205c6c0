// Starts the dashboard of a run and tells where it is; `train` and `dashboard` share this.
import { z } from 'zod';
import { describeFailure } from '../failure.js';
import type { Output } from '../output.js';
import { Dashboard, type DashboardOptions } from './server.js';

/** Options of whatever serves a dashboard. */
export const dashboardFields = {
  port: z.int().min(0).max(65_535).default(0).describe("The dashboard's port on 127.0.0.1; 0: any that is free"),
  open: z.boolean().default(false).describe('Open the dashboard in a browser'),
};

interface Options extends Pick<DashboardOptions, 'runDir' | 'title' | 'port'> {
  readonly open: boolean;
}

/** Serves the dashboard of the run in a folder. The address goes to stderr, and to stdout under --json. */
export async function openDashboard({ open, ...options }: Options, output: Output): Promise<Dashboard> {
  const onError = (error: unknown) => output.note(`dashboard: ${describeFailure(error, false)}`);
  const dashboard = await Dashboard.start({ ...options, onError });
  output.note(`dashboard: ${dashboard.url}`);
  output.event({ type: 'dashboard', url: dashboard.url });
  if (open) await openInBrowser(dashboard.url).catch(onError);
  return dashboard;
}

async function openInBrowser(url: string): Promise<void> {
  // Loaded only when needed.
  const { default: open } = await import('open');
  // It must not end with us, nor keep us from ending.
  const browser = await open(url);
  browser.once('error', () => {});
}
