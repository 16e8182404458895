// Graphile Worker in a process of its own, which takes orders as lines of JSON and answers with how long they took.
"use strict";

const readline = require("node:readline");
const { performance } = require("node:perf_hooks");
const { setTimeout: sleep } = require("node:timers/promises");
const { Logger, run, runMigrations } = require("graphile-worker");
const { Pool } = require("pg");

const connectionString = process.env.JOBS_DATABASE;
const logger = new Logger(() => () => {});
const pool = new Pool({ connectionString, max: 2 });

// What it has besides its defaults: fetching many jobs at once, and completing many at once.
const WAYS = {
  default: {},
  batched: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
};

const WRITE = {
  name: "write",
  text: "insert into plain.contacts (tenant_id, name, email) values ($1, $2, $3)",
};

const orders = {
  async prepare() {
    await runMigrations({ connectionString, logger });
    return { seconds: 0 };
  },

  async fill({ tenants, count, mark }) {
    await pool.query(
      `select count(graphile_worker.add_job('write', json_build_object('tenant', ($1::uuid[])[1 + n % array_length($1::uuid[], 1)],
                                                                       'email', $3 || n)))
         from generate_series(1, $2::int4) n`,
      [tenants, count, mark],
    );
    return { seconds: 0 };
  },

  // From the beginning of the first job to the end of the last.
  async work({ way, count, concurrency }) {
    let begun = 0;
    let ended = 0;
    let first;
    let done;
    const all = new Promise((resolve) => (done = resolve));
    const write = async (payload, helpers) => {
      if (begun++ === 0) first = performance.now();
      await helpers.withPgClient((client) =>
        client.query({ ...WRITE, values: [payload.tenant, "by a job", payload.email] }),
      );
      if (++ended === count) done(performance.now());
    };
    const runner = await run({
      preset: {
        worker: {
          connectionString,
          concurrentJobs: concurrency,
          maxPoolSize: concurrency + 1,
          pollInterval: 2000,
          logger,
          ...WAYS[way],
        },
      },
      taskList: { write },
      noHandleSignals: true,
    });
    const last = await all;
    // It completes the last ones after their handlers have ended, which is not counted.
    let left = count;
    for (let looks = 0; left !== 0 && looks < 1000; looks++) {
      left = (await pool.query("select count(*)::int4 as jobs from graphile_worker._private_jobs")).rows[0].jobs;
      if (left !== 0) await sleep(10);
    }
    await runner.stop();
    if (left !== 0) throw new Error(`${left} jobs are left`);
    return { seconds: (last - first) / 1000 };
  },
};

const lines = readline.createInterface({ input: process.stdin });
(async () => {
  for await (const line of lines) {
    const order = JSON.parse(line);
    process.stdout.write(JSON.stringify(await orders[order.do](order)) + "\n");
  }
  await pool.end();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
