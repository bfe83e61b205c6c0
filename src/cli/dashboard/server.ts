// The dashboard's server: one page, its stream of events and a stop button, on 127.0.0.1 behind a random token. Whoever does
// not know the token, or comes under another host's name (DNS rebinding), gets nothing.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { FlatminError } from '../../errors.js';
import { RUN_FILES } from '../../run-folder.js';
import { RunFeed } from './feed.js';
import { renderPage } from './page.js';

/** What is served, and where. */
export interface DashboardOptions {
  readonly runDir: string;
  /** Name of the run on the page. */
  readonly title: string;
  /** 0: any free port. */
  readonly port: number;
  /** Told when the run's files cannot be read. */
  readonly onError: (error: unknown) => void;
}

/** Names under which a browser on this machine, or at the end of a tunnel to it, comes. */
const HOSTS = new Set(['127.0.0.1', 'localhost', '[::1]']);

const HEADERS = {
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
} as const;

const policy = (nonce: string) =>
  [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src 'nonce-${nonce}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');

const GRACE_MS = 1000;

const digest = (text: string) => createHash('sha256').update(text).digest();
const newSecret = () => randomBytes(24).toString('base64url');

/** A running dashboard. */
export class Dashboard {
  readonly url: string;
  readonly #options: DashboardOptions;
  readonly #token: string;
  readonly #server: Server;
  readonly #feed: RunFeed;
  readonly #streams = new Set<ServerResponse>();

  private constructor(server: Server, token: string, options: DashboardOptions) {
    this.#server = server;
    this.#token = token;
    this.#options = options;
    this.#feed = new RunFeed(options.runDir, options.onError);
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/${token}/`;
    server.on('request', (request, response) => void this.#answer(request, response));
  }

  /** Starts serving. @throws `ERR_FLATMIN_OPTION` when the port cannot be had. */
  static async start(options: DashboardOptions): Promise<Dashboard> {
    const server = createServer();
    server.listen(options.port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch (error) {
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        `dashboard: cannot listen on port ${options.port} (${(error as Error).message}); give another one, or none for any that is free`,
        error,
      );
    }
    return new Dashboard(server, newSecret(), options);
  }

  /** Sends what has come last, says goodbye to open pages and ends. */
  async close(): Promise<void> {
    await this.#feed.look();
    this.#feed.close();
    for (const stream of this.#streams) stream.end('event: bye\ndata: {}\n\n');
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeIdleConnections();
    // A page that does not read must not keep training from ending.
    const impatient = setTimeout(() => this.#server.closeAllConnections(), GRACE_MS);
    await closed;
    clearTimeout(impatient);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const refuse = (status: number) => response.writeHead(status, HEADERS).end();
    const [, token = '', ...rest] = (request.url ?? '').split('/');
    if (!this.#isAllowed(request, token)) return void refuse(403);
    const route = `${request.method} ${rest.join('/')}`;
    try {
      if (route === 'GET ') this.#page(response);
      else if (route === 'GET events') await this.#stream(request, response);
      else if (route === 'POST stop') await this.#stop(response);
      else refuse(404);
    } catch (error) {
      this.#options.onError(error);
      if (!response.headersSent) refuse(500);
    }
  }

  #isAllowed({ headers }: IncomingMessage, token: string): boolean {
    const host = headers.host ?? '';
    const isOwnOrigin = headers.origin === undefined || headers.origin === `http://${host}`;
    return HOSTS.has(host.replace(/:\d+$/, '')) && isOwnOrigin && timingSafeEqual(digest(token), digest(this.#token));
  }

  #page(response: ServerResponse): void {
    const nonce = newSecret();
    const headers = {
      ...HEADERS,
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy': policy(nonce),
    };
    response.writeHead(200, headers).end(renderPage({ ...this.#options, nonce }));
  }

  async #stream(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.writeHead(200, { ...HEADERS, 'Content-Type': 'text/event-stream' });
    const leave = await this.#feed.listen((update) => response.write(`data: ${JSON.stringify(update)}\n\n`));
    this.#streams.add(response);
    const end = () => {
      leave();
      this.#streams.delete(response);
    };
    if (request.destroyed) end();
    else request.once('close', end);
  }

  /** Asks the run to end after its step, wherever it runs. */
  async #stop(response: ServerResponse): Promise<void> {
    await this.#feed.look();
    if (!this.#feed.ended) await writeFile(join(this.#options.runDir, RUN_FILES.stop), '');
    response.writeHead(202, HEADERS).end();
  }
}
