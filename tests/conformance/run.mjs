// Runs the official conformance suite against the same server twice, directly and through the gateway, and compares the
// results check by check: a gateway that is invisible to those who follow the protocol changes none of them. Then runs what
// the suite has for authorization servers against the gateway, which is one.
//
//   node run.mjs --binary target/debug/portcullis --work DIRECTORY
import { mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { options } from '../sdk/common.mjs';
import { runAuthorization, scenarios } from './authorization.mjs';
import { startGateway } from './gateway.mjs';
import { check, differences, isRight, runSuite, table } from './results.mjs';
import { shim } from './shim.mjs';
import { startFixture } from './start.mjs';

const { binary, work } = options({ binary: '', work: '' });
const REVISIONS = ['2025-11-25', '2026-07-28'];
const WAYS = { direct: 'directly', through: 'through the gateway' };
const HEADERS = 'http-header-validation';
const began = Date.now();

/** What is run: a revision's whole set against a careful server, and one scenario against a careless one. */
const legs = [
    ...REVISIONS.map(revision => ({ name: revision, suite: ['--requirements', revision] })),
    { name: 'naive', suite: ['--scenario', HEADERS, '--spec-version', '2026-07-28'], naive: true }
];

const directory = resolve(work);
rmSync(directory, { recursive: true, force: true });
mkdirSync(directory, { recursive: true });
console.log('== starting the fixtures, the shims and the gateway');
for (const leg of legs) {
    leg.path = `/${leg.name}/mcp`;
    // Each way has a server of its own, so that one run's notifications never reach the other.
    leg.direct = { fixture: await startFixture(leg) };
    leg.through = { fixture: await startFixture(leg) };
    leg.direct.port = await shim(() => ({ origin: leg.direct.fixture.origin }));
}
let gateway;
const port = await shim(() => gateway);
gateway = await startGateway({ binary: resolve(binary), directory: join(directory, 'gateway'), port, legs });
for (const leg of legs) leg.through.port = port;

/** Both ways of one leg, one after the other: some scenarios measure time. */
async function ways(leg) {
    const ran = [];
    for (const way of Object.keys(WAYS)) {
        const url = `http://localhost:${leg[way].port}${leg.path}`;
        ran.push(await runSuite(leg.suite, url, join(directory, `${leg.name}-${way}`)));
        console.log(`   ${leg.name}, ${WAYS[way]}: ${count(ran.at(-1))}`);
    }
    return ran;
}

const tally = { passed: 0, failed: 0 };
const verdict = (right, what) => {
    tally[right ? 'passed' : 'failed'] += 1;
    if (!right) console.log(`FAILED: ${what}`);
};

console.log('== running the suite');
const [issuing, ...ran] = await Promise.all([runAuthorization({ binary: resolve(binary), directory }), ...legs.map(ways)]);
for (const [index, leg] of legs.entries()) {
    const { name, naive } = leg;
    const [direct, through] = ran[index];
    verdict(gateway.permitted(leg) > 0, `the gateway must have permitted something of ${name}`);
    if (naive) {
        console.log(`== judging ${HEADERS} against a server that does not look at headers`);
        verdict(direct.checks.some(check => !isRight(check)), 'a server that does not look at headers must fail directly');
        verdict(through.checks.length >= direct.checks.length, `${HEADERS} must have run through the gateway`);
        for (const found of through.checks) verdict(isRight(found), `${check(found)} through the gateway: ${found.status} ${found.error}`);
        continue;
    }
    console.log(`== comparing both ways of ${name}`);
    verdict(direct.code === 0, `the fixture itself must pass what ${name} requires; see ${direct.log}`);
    verdict(through.code === 0, `what ${name} requires must pass through the gateway; see ${through.log}`);
    const { same, different } = differences(direct.checks, through.checks);
    tally.passed += same;
    tally.failed += different.length;
    if (different.length > 0) console.log(table(different));
}
gateway.stop();

console.log('== judging the gateway as an authorization server');
verdict(issuing.code === 0, `the suite must pass; see ${issuing.log}`);
for (const found of issuing.checks) verdict(found.status === 'SUCCESS', `${check(found)}: ${found.status} ${found.error}; see ${issuing.log}`);
for (const name of scenarios()) verdict(issuing.checks.some(({ scenario }) => scenario === name), `${name} must have run`);
console.log(`   ${count(issuing)}`);

function count({ checks }) {
    return `${checks.filter(isRight).length} of ${checks.length} checks right`;
}

console.log(`== results in ${directory}, after ${Math.round((Date.now() - began) / 1000)} s`);
console.log(`conformance: ${tally.passed} passed, ${tally.failed} failed`);
process.exit(tally.failed === 0 && tally.passed > 0 ? 0 : 1);
