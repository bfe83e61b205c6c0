// The dashboard: who is let in, what the feed tells, and, where there is a Chromium, what a user sees and does in it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, type RequestOptions, request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunFeed, type Update } from '../src/cli/dashboard/feed.js';
import { readStoredRun } from '../src/report/runs.js';
import { thisProcess } from '../src/run-process.js';
import { flatmin } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';

const ENTRY = fileURLToPath(new URL('../bin/flatmin.js', import.meta.url));
const CHROMIUM = process.env.FLATMIN_CHROMIUM ?? '/usr/bin/chromium';

const folder = temporaryFolder('dashboard');
const children = new Set<ChildProcess>();
afterAll(async () => {
  for (const child of children) child.kill();
  await Promise.all([...children].map((child) => child.exitCode ?? child.signalCode ?? once(child, 'close')));
});

/** Starts a command that serves a dashboard; resolves with its address. */
async function serve(args: readonly string[]): Promise<{ url: string; child: ChildProcess }> {
  const child = spawn(process.execPath, [ENTRY, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  children.add(child);
  let text = '';
  for await (const chunk of child.stderr) {
    text += chunk;
    const [, url] = /dashboard: (http:\S+)\n/.exec(text) ?? [];
    if (url !== undefined) {
      child.stderr.destroy();
      return { url, child };
    }
  }
  throw new Error(`no dashboard: ${text}`);
}

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

function get(url: string | URL, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(url, options, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
    });
    asked.once('error', reject).end();
  });
}

const START = {
  ...{ type: 'start', runDir: null, steps: 20, epochs: 2, stepsPerEpoch: 10, stepsDone: 0, parameters: 9, seed: 1 },
  device: 'cpu',
  resumedFrom: null,
};

/** A run folder as a run in progress leaves it. */
function makeRun(name: string): string {
  const runDir = join(folder, name);
  mkdirSync(runDir, { recursive: true });
  const config = {
    ...{
      train: { seed: 1, epochs: 2 },
      optimizer: { base: { type: 'sgd' } },
      data: { train: { name: '<i>', count: 1 } },
    },
    model: { name: '</script>' },
  };
  writeFileSync(join(runDir, 'config.json'), JSON.stringify(config));
  writeFileSync(join(runDir, 'events.jsonl'), `${JSON.stringify(START)}\n`);
  return runDir;
}

describe('the server', () => {
  let runDir: string;
  let url: string;
  let child: ChildProcess;
  beforeAll(async () => {
    runDir = makeRun('served');
    ({ url, child } = await serve(['dashboard', runDir]));
  });

  it('serves a page without anything from elsewhere, under a strict policy', async () => {
    const { status, headers, body } = await get(url);
    expect(status).toBe(200);
    expect(headers['content-security-policy']).toMatch(
      /^default-src 'none'; script-src 'nonce-[\w-]{32}'; style-src 'nonce-/,
    );
    expect(headers['content-security-policy']).not.toContain('unsafe');
    expect(headers).toMatchObject({ 'referrer-policy': 'no-referrer', 'cache-control': 'no-store' });
    expect(body).not.toMatch(/(src|href)="(?!data:)/);
    // Names from the run's files are text.
    expect(body).toContain('<title>SGD: &lt;/script&gt; on &lt;i&gt;</title>');
    // Another page gets another nonce.
    expect((await get(url)).headers['content-security-policy']).not.toBe(headers['content-security-policy']);
  });

  it('listens on the loopback interface alone, at an address with 24 random bytes', () => {
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\/$/);
  });

  it.each([
    ['the root', '/'],
    ['a wrong token', `/${'A'.repeat(32)}/`],
    ['a token that is too short', '/A/'],
    ['a wrong token for events', `/${'A'.repeat(32)}/events`],
    ['a way around', '/../package.json'],
  ])('refuses %s', async (_, path) => {
    expect(await get(url, { path })).toMatchObject({ status: 403, body: '' });
  });

  it('serves nothing else', async () => {
    for (const path of ['config.json', 'events/', '../', 'client.js'])
      expect(await get(url, { path: `${new URL(url).pathname}${path}` })).toMatchObject({ status: 404, body: '' });
    expect(await get(`${url}stop`)).toMatchObject({ status: 404 });
  });

  it('refuses a host that is not this machine, and other pages', async () => {
    for (const host of ['evil.example', 'evil.example:80', '127.0.0.1.evil.example'])
      expect(await get(url, { headers: { host } })).toMatchObject({ status: 403, body: '' });
    expect(await get(url, { headers: { host: 'localhost:8000' } })).toMatchObject({ status: 200 });
    const stop = { method: 'POST', headers: { origin: 'http://evil.example' } };
    expect(await get(`${url}stop`, stop)).toMatchObject({ status: 403 });
    expect(existsSync(join(runDir, 'stop'))).toBe(false);
  });

  it('asks a run to stop with a file, but not one that has ended', async () => {
    expect(await get(`${url}stop`, { method: 'POST' })).toMatchObject({ status: 202 });
    expect(existsSync(join(runDir, 'stop'))).toBe(true);
    rmSync(join(runDir, 'stop'));
    appendFileSync(join(runDir, 'events.jsonl'), '{"type":"end","reason":"finished","result":{}}\n');
    expect(await get(`${url}stop`, { method: 'POST' })).toMatchObject({ status: 202 });
    expect(existsSync(join(runDir, 'stop'))).toBe(false);
  });

  it('ends at a signal', async () => {
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([0, null]);
  });
});

describe('refusals', () => {
  it('of a folder without a run, a port in use and a run without a folder', async () => {
    const missing = await flatmin(['dashboard', join(folder, 'missing')]);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('ERR_FLATMIN_PATH') });
    const { url } = await serve(['dashboard', makeRun('first')]);
    const taken = await flatmin(['dashboard', makeRun('second'), '--port', new URL(url).port]);
    expect(taken).toMatchObject({ code: 2, stderr: expect.stringContaining('cannot listen on port') });
    const unsaved = await flatmin(['train', '--dashboard', '--no-save']);
    expect(unsaved).toMatchObject({ code: 2, stderr: expect.stringContaining('--no-save') });
  });
});

describe('the feed', () => {
  const line = (value: object) => `${JSON.stringify(value)}\n`;

  it('tells everything at first, then what is added in whole lines, and all anew after a resume', async () => {
    const runDir = makeRun('fed');
    const [events, steps] = [join(runDir, 'events.jsonl'), join(runDir, 'steps.jsonl')];
    const errors: unknown[] = [];
    const feed = new RunFeed(runDir, (error) => errors.push(error));
    const told: Update[] = [];
    const leave = await feed.listen((update) => told.push(update));
    expect(told).toMatchObject([{ kind: 'all', events: [START], steps: [] }]);
    writeFileSync(steps, `${line({ type: 'step', step: 1 })}{"type":"st`);
    await feed.look();
    expect(told.at(-1)).toMatchObject({ kind: 'more', events: [], steps: [{ step: 1 }] });
    appendFileSync(steps, line({}).replace('{', 'ep","step":2'));
    appendFileSync(events, line({ type: 'epoch', epoch: 1 }));
    await feed.look();
    expect(told.slice(2).flatMap((update) => update.steps)).toEqual([{ type: 'step', step: 2 }]);
    expect(told.slice(1).flatMap((update) => update.events)).toEqual([{ type: 'epoch', epoch: 1 }]);
    expect(feed.ended).toBe(false);
    // A resume replaces the files by shorter ones.
    rmSync(events);
    rmSync(steps);
    writeFileSync(steps, line({ type: 'step', step: 1 }));
    writeFileSync(events, line(START) + line({ type: 'end' }));
    await feed.look();
    expect(told.at(-1)).toMatchObject({ kind: 'all', events: [START, { type: 'end' }] });
    expect(feed.ended).toBe(true);
    leave();
    const count = told.length;
    appendFileSync(events, line({ type: 'epoch', epoch: 2 }));
    await feed.look();
    expect(told).toHaveLength(count);
    expect(errors).toEqual([]);
    feed.close();
  });

  it('tells at once that the process of a run was killed, until another one goes on with it', async () => {
    const runDir = join(folder, 'killed');
    const args = [ENTRY, 'train', '--epochs', '100000', '--threads', '1', '--run-dir', runDir];
    const child = spawn(process.execPath, args, { stdio: 'ignore' });
    children.add(child);
    const errors: unknown[] = [];
    const feed = new RunFeed(runDir, (error) => errors.push(error));
    const told: Update[] = [];
    const seen = (what: (update: Update) => boolean) =>
      new Promise<void>((resolve) => {
        void feed.listen((update) => {
          told.push(update);
          if (what(update)) resolve();
        });
      });
    await seen(({ events }) => events.some(({ type }) => type === 'epoch'));
    expect(told.some(({ cutOff }) => cutOff)).toBe(false);
    child.kill('SIGKILL');
    await seen(({ cutOff }) => cutOff);
    expect(readStoredRun(runDir).cutOff).toBe(true);
    const config = JSON.parse(readFileSync(join(runDir, 'config.json'), 'utf8'));
    config.environment.process = thisProcess();
    writeFileSync(join(runDir, 'config.json'), JSON.stringify(config));
    appendFileSync(join(runDir, 'events.jsonl'), line(START));
    await feed.look();
    await feed.look();
    expect(told.at(-1)).toMatchObject({ kind: 'more', events: [START], cutOff: false });
    expect(readStoredRun(runDir).cutOff).toBe(false);
    expect(errors).toEqual([]);
    feed.close();
  }, 60_000);

  it('reports lines that are no JSON and goes on', async () => {
    const runDir = makeRun('corrupt');
    const errors: unknown[] = [];
    const feed = new RunFeed(runDir, (error) => errors.push(error));
    await feed.look();
    appendFileSync(join(runDir, 'events.jsonl'), 'garbage\n');
    await feed.look();
    expect(errors).toHaveLength(1);
    appendFileSync(join(runDir, 'events.jsonl'), line({ type: 'end' }));
    await feed.look();
    expect(feed.ended).toBe(true);
  });
});

const ARGUMENTS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';

describe.skipIf(!existsSync(CHROMIUM))('in Chromium', () => {
  let browser: Browser;
  const complaints: string[] = [];
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ARGUMENTS.split(' ') });
  });
  afterAll(() => browser?.close());

  async function openPage(url: string): Promise<Page> {
    const page = await browser.newPage();
    page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (asked) => {
      if (!asked.url().startsWith(url) && !asked.url().startsWith('data:')) complaints.push(`asked for ${asked.url()}`);
    });
    await page.goto(url);
    return page;
  }

  const text = (page: Page, selector: string) => page.locator(selector).first().textContent();
  const pixels = (page: Page) =>
    page
      .locator('#charts canvas')
      .first()
      .evaluate((canvas: HTMLCanvasElement) => canvas.toDataURL());

  it('curves move, a reload shows the same, another page joins, and the stop button ends the run with a checkpoint', async () => {
    const runDir = join(folder, 'trained');
    const training = [
      '--epochs',
      '100000',
      '--optimizer',
      'asam',
      '--validation',
      '0.1',
      '--seed',
      '1',
      '--threads',
      '1',
    ];
    const { url, child } = await serve(['train', ...training, '--run-dir', runDir, '--dashboard']);
    const page = await openPage(url);
    await page.locator('#log li', { hasText: /epoch 2\b/ }).waitFor();
    expect(await text(page, '#state')).toBe('training');
    expect(await text(page, '#accuracy strong')).toMatch(/^\d+\.\d\d %$/);
    expect(await text(page, '#sharpness .detail')).toMatch(/^last epoch 0\.\d+$/);
    expect(await text(page, '#left')).toMatch(/^about \d+:\d\d/);
    expect(await page.locator('#charts .card:visible h2').allTextContents()).toHaveLength(6);
    const before = await pixels(page);
    await expect.poll(() => pixels(page), { timeout: 30_000 }).not.toBe(before);

    await page.reload();
    await page.locator('#log li', { hasText: /epoch 1\b/ }).waitFor();
    expect(await text(page, '#state')).toBe('training');

    // A dashboard of its own, as for a run of another process.
    const other = await serve(['dashboard', runDir]);
    const second = await openPage(other.url);
    await second.locator('#log li', { hasText: /epoch 5\b/ }).waitFor();
    await second.locator('#stop').click();
    await second.locator('dialog button[value=cancel]').click();
    expect(await text(second, '#state')).toBe('training');
    await second.locator('#stop').click();
    await second.locator('dialog button[value=stop]').click();
    for (const each of [page, second]) await each.locator('#state', { hasText: 'stopped' }).waitFor();
    expect(await second.locator('#stop').isDisabled()).toBe(true);

    expect(await once(child, 'close')).toEqual([130, null]);
    expect(existsSync(join(runDir, 'checkpoints/last/state.json'))).toBe(true);
    expect(existsSync(join(runDir, 'stop'))).toBe(false);
    expect(
      JSON.parse(readFileSync(join(runDir, 'events.jsonl'), 'utf8').trimEnd().split('\n').at(-1) ?? ''),
    ).toMatchObject({
      ...{ type: 'end', reason: 'stopped' },
    });
    expect(complaints).toEqual([]);
  }, 120_000);

  it('a run that failed says of what, and cannot be stopped', async () => {
    const runDir = makeRun('failed');
    const error = { code: 'ERR_FLATMIN_NON_FINITE', message: 'training diverged' };
    appendFileSync(join(runDir, 'events.jsonl'), `${JSON.stringify({ type: 'end', reason: 'failed', error })}\n`);
    const { url } = await serve(['dashboard', runDir]);
    const page = await openPage(url);
    await page.locator('#state', { hasText: 'failed' }).waitFor();
    expect(await text(page, '#log li.warning')).toBe('failed: ERR_FLATMIN_NON_FINITE: training diverged');
    expect(await text(page, '#left')).toBe('ERR_FLATMIN_NON_FINITE');
    expect(await page.locator('#stop').isDisabled()).toBe(true);
    expect(complaints).toEqual([]);
  }, 60_000);

  it('losses that are not finite are gaps, and names are text', async () => {
    const runDir = makeRun('odd');
    const epoch = {
      ...{
        type: 'epoch',
        epoch: 1,
        train: { loss: null, accuracy: 0.1 },
        generalizationGap: null,
        sharpness: null,
        lr: 0.1,
      },
      ...{
        rho: null,
        momentum: 0.9,
        imagesPerSecond: 5,
        seconds: 2,
        dataSeconds: 0,
        memoryBytes: null,
        skippedSteps: 3,
      },
      warning: '<img src=x> were skipped',
    };
    appendFileSync(join(runDir, 'events.jsonl'), `${JSON.stringify(epoch)}\n`);
    const { url } = await serve(['dashboard', runDir]);
    const page = await openPage(url);
    await page.locator('#log li.warning', { hasText: 'warning: <img src=x> were skipped' }).waitFor();
    expect(await text(page, 'h1')).toBe('SGD: </script> on <i>');
    expect(await text(page, '#loss strong')).toBe('-');
    expect(await page.locator('#charts .card:visible h2').allTextContents()).toEqual(['Accuracy, %']);
    expect(complaints).toEqual([]);
  }, 60_000);
});
