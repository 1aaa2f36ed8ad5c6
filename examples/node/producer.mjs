// A producer for recollect on RabbitMQ, written from docs/contract.md.
//
//   RECOLLECT_BROKER_URL=amqp://… node producer.mjs [--model NAME] [--pack 32] [--in-flight 1000]
//     [--reply-timeout 300] < rows.jsonl
//
// Each line of standard input is a payload. Each line of standard output is a reply with the number of its row
// from 0, as they come. What is unanswered is sent again after a lost connection, and when nothing came for
// --reply-timeout seconds: what was done meanwhile is a hit. Where the reader of standard output leaves (head), so
// does this. Exit codes: 0 all ok, 1 some rows failed, 2 usage, 3 the broker is unreachable.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import amqp from 'amqplib';

const PACK_MAX_BYTES = 1 << 20; // a message may have 16 MiB
const RECONNECT_SECONDS = 60;
const REPLY_QUEUE = {
  durable: true,
  // It goes by itself when this process is gone for half an hour.
  arguments: { 'x-queue-type': 'quorum', 'x-expires': 30 * 60 * 1000 },
};

class Unreachable extends Error {}

class Producer {
  constructor(url, prefix) {
    this.url = url;
    this.requests = `${prefix}.requests`;
    this.replyTo = `${prefix}.replies.node-${randomUUID()}`;
    this.unanswered = new Map(); // correlation id to pack
    this.inFlight = 0;
    this.heard = Date.now();
    this.changed = () => {};
  }

  async connect() {
    this.connection = await amqp.connect(this.url);
    this.connection.on('error', () => {}); // 'close' follows
    this.connection.on('close', () => this.#comeBack());
    this.channel = await this.connection.createConfirmChannel();
    this.channel.on('error', () => this.#drop());
    this.channel.on('return', () => this.#fail(`there is no queue ${this.requests}: was a worker ever started?`));
    await this.channel.assertQueue(this.replyTo, REPLY_QUEUE);
    await this.channel.prefetch(64);
    await this.channel.consume(this.replyTo, (message) => this.#received(message));
  }

  // Sends rows, each { row, text }, as one message.
  send(rows, model) {
    const id = `${this.replyTo}-${rows[0].row}`;
    const fields = model === undefined ? '' : `,"model":${JSON.stringify(model)}`;
    // The text goes as it came: JSON.parse would round integers beyond 2^53. What is no JSON goes bare, and the
    // worker's refusal is its reply.
    const lines = rows.map(({ text }) => (isJson(text) ? `{"payload":${text}${fields}}` : text));
    const pack = { id, rows, lines, parts: new Map() };
    if (this.unanswered.size === 0) this.heard = Date.now();
    this.unanswered.set(id, pack);
    this.inFlight += rows.length;
    this.#publish(pack);
  }

  // Until at most so many rows wait for their reply.
  async atMost(rows) {
    while (this.inFlight > rows && !this.failure) {
      await new Promise((resolve) => { this.changed = resolve; });
    }
    if (this.failure) throw this.failure;
  }

  // Call it now and then. After a silence of so many seconds, what is unanswered is sent again: a request may be
  // lost with the queue it was in, and no connection with it.
  remind(seconds) {
    if (this.lost || this.closing || Date.now() - this.heard < seconds * 1000) return;
    this.heard = Date.now();
    this.#resend();
  }

  close() {
    this.closed ??= this.#close();
    return this.closed;
  }

  async #close() {
    this.closing = true;
    await this.channel.deleteQueue(this.replyTo);
    await this.connection.close();
  }

  #resend() {
    for (const pack of this.unanswered.values()) this.#publish(pack); // what was done meanwhile is a hit
  }

  #publish(pack) {
    const single = pack.lines.length === 1;
    const body = Buffer.from(single ? pack.lines[0] : `${pack.lines.join('\n')}\n`);
    const options = {
      contentType: single ? 'application/json' : 'application/x-ndjson',
      correlationId: pack.id,
      replyTo: this.replyTo,
      headers: { enqueued_at: Date.now() / 1000 },
      persistent: true,
      mandatory: true,
    };
    const refused = (error) => error && !this.lost && this.#publish(pack);
    try {
      this.channel.publish('', this.requests, body, options, refused);
    } catch { // the channel is closed: what is unanswered is sent again on the next
    }
  }

  #received(message) {
    if (message === null) return this.#drop(); // the queue was deleted, by us at the end or by somebody else
    const pack = this.unanswered.get(message.properties.correlationId);
    const body = pack && assembled(pack, message);
    if (pack) this.heard = Date.now();
    if (body !== undefined) this.#answered(pack, body.toString().replace(/\n$/, '').split('\n'));
    this.channel.ack(message);
  }

  #answered(pack, replies) {
    const { rows } = pack;
    const whole = rows.length > 1 && replies.length === 1; // the message was refused: one reply for all
    if (!whole && replies.length !== rows.length) return this.#publish(pack); // parts of two answers: ask again
    this.unanswered.delete(pack.id);
    this.inFlight -= rows.length;
    rows.forEach(({ row }, position) => this.onReply(row, replies[whole ? 0 : position]));
    this.changed();
  }

  #drop() { // and begin anew
    if (!this.closing) this.connection.close().catch(() => {});
  }

  async #comeBack() {
    if (this.closing) return;
    this.lost = true;
    for (const end = Date.now() + RECONNECT_SECONDS * 1000; Date.now() < end; await sleep(500 * Math.random())) {
      try {
        await this.connect();
      } catch (error) {
        this.reason = error;
        continue;
      }
      this.lost = false;
      this.heard = Date.now();
      this.#resend();
      return;
    }
    this.#fail(`the broker is unreachable: ${this.reason.message}`);
  }

  #fail(why) {
    this.failure = new Unreachable(why);
    this.changed();
  }
}

// The body of a pack's reply, once all parts of it are there. A part has the header `part: i/n`.
function assembled(pack, message) {
  const header = message.properties.headers?.part;
  if (header === undefined) return message.content;
  const [number, count] = header.split('/').map(Number);
  pack.parts.set(number, message.content);
  if (pack.parts.size < count) return undefined;
  const body = Buffer.concat([...pack.parts.keys()].sort((a, b) => a - b).map((n) => pack.parts.get(n)));
  pack.parts.clear();
  return body;
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

// Cut at \n alone: node:readline also cuts at U+2028, which may stand in a JSON string as it is.
async function* linesOf(input) {
  let rest = '';
  for await (const chunk of input.setEncoding('utf8')) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    yield* lines;
  }
  yield rest;
}

async function* packs(input, most) {
  let rows = [], bytes = 0, row = 0;
  for await (const text of linesOf(input)) {
    if (text.trim() === '') continue;
    if (rows.length && (rows.length === most || bytes + text.length > PACK_MAX_BYTES)) {
      yield rows;
      [rows, bytes] = [[], 0];
    }
    rows.push({ row: row++, text });
    bytes += text.length;
  }
  if (rows.length) yield rows;
}

function isUrl(text) {
  try {
    return Boolean(new URL(text));
  } catch {
    return false;
  }
}

// The URL as amqplib reads it. Only its scheme is shown where it is wrong: it may hold a password.
function amqpUrl(given) {
  const url = given?.replace(/^pyamqp/, 'amqp');
  if (url && /^amqps?:\/\/./.test(url) && isUrl(url)) return url;
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(given ?? '')?.[0];
  const got = scheme ? `${scheme}…` : given ? 'no such URL' : 'none';
  throw new TypeError(`expected RECOLLECT_BROKER_URL=amqp://…, amqps://… or pyamqp://…; got ${got}`);
}

// Replies that nobody reads yet would pile up here: no more is asked for until they are read.
async function drained(output) {
  if (output.writableNeedDrain) await new Promise((resolve) => { output.once('drain', resolve); });
}

// Nobody reads on: what waits for its reply will wait in vain, and the reply queue goes.
function leave(producer, error) {
  process.stdout.on('error', () => {});
  if (error.code !== 'EPIPE') console.error(`error: ${error.message}`);
  producer.close().catch(() => {}).finally(() => process.exit(error.code === 'EPIPE' ? 0 : 1));
}

async function main() {
  const options = {
    model: { type: 'string' },
    pack: { type: 'string', default: '32' },
    'in-flight': { type: 'string', default: '1000' },
    'reply-timeout': { type: 'string', default: '300' },
  };
  const { values } = parseArgs({ options });
  const [pack, inFlight, silence] = ['pack', 'in-flight', 'reply-timeout'].map((name) => Number(values[name]));
  const url = amqpUrl(process.env.RECOLLECT_BROKER_URL);
  if (!(pack >= 1) || !(inFlight >= pack) || !(silence > 0)) {
    throw new TypeError('expected --in-flight at least --pack at least 1, and --reply-timeout above 0');
  }
  const producer = new Producer(url, process.env.RECOLLECT_PREFIX ?? 'recollect');
  let failed = 0;
  producer.onReply = (row, reply) => {
    if (JSON.parse(reply).status !== 'ok') failed += 1;
    process.stdout.write(`{"row":${row},${reply.slice(1)}\n`); // spliced: numbers stay as they came
  };
  process.stdout.once('error', (error) => leave(producer, error));
  await producer.connect().catch((error) => { throw new Unreachable(error.message); });
  setInterval(() => producer.remind(silence), Math.min(silence * 1000, 1000)).unref();
  for await (const rows of packs(process.stdin, pack)) {
    await producer.atMost(inFlight - rows.length);
    await drained(process.stdout);
    producer.send(rows, values.model);
  }
  await producer.atMost(0);
  await producer.close();
  return failed ? 1 : 0;
}

main().then(
  (code) => { process.exitCode = code; },
  (error) => {
    console.error(`error: ${error.message}`);
    process.exit(error instanceof Unreachable ? 3 : 2);
  },
);
