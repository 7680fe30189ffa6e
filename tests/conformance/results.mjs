// Runs the suite, reads what it found, and compares two runs.
import { spawn } from 'node:child_process';
import { openSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const SUITE = fileURLToPath(new URL('./node_modules/@modelcontextprotocol/conformance/dist/index.js', import.meta.url));
export const PATIENCE = 120_000;
const MADE_OF_TIME = /-\d{4}-\d\d-\d\dT[\d-]+Z$/;

/** Runs the suite once; gives its exit code and every check that it made. */
export async function runSuite(words, url, directory) {
    const log = `${directory}.log`;
    const output = openSync(log, 'w');
    const command = [SUITE, 'server', '--url', url, ...words, '-o', directory];
    const child = spawn(process.execPath, command, { stdio: ['ignore', output, output] });
    const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    const code = await new Promise(resolve => child.on('exit', code => resolve(code ?? 'a signal')));
    clearTimeout(late);
    return { code, log, checks: read(directory) };
}

/** The checks that a run wrote below a directory. */
export function read(directory) {
    return readdirSync(directory).filter(name => MADE_OF_TIME.test(name)).flatMap(name => {
        const scenario = name.replace(MADE_OF_TIME, '').replace(/^(authorization-)?server-/, '');
        const checks = JSON.parse(readFileSync(join(directory, name, 'checks.json'), 'utf8'));
        return checks.map(({ id, name, status, errorMessage }) => ({ scenario, id, name, status, error: errorMessage ?? '' }));
    });
}

export const isRight = ({ status }) => status !== 'FAILURE' && status !== 'WARNING';
export const check = ({ scenario, id }) => `${scenario} ${id}`;

/** Pairs the checks of two runs by scenario, id and name, in the order in which they were made. */
export function differences(direct, through) {
    const [left, right] = [grouped(direct), grouped(through)];
    const different = [];
    let same = 0;
    for (const key of new Set([...left.keys(), ...right.keys()])) {
        const [one, other] = [left.get(key) ?? [], right.get(key) ?? []];
        for (let index = 0; index < Math.max(one.length, other.length); index += 1) {
            if (one[index]?.status === other[index]?.status) same += 1;
            else different.push({ direct: one[index], through: other[index] });
        }
    }
    return { same, different };
}

function grouped(checks) {
    const groups = new Map();
    for (const found of checks) {
        const key = `${check(found)} ${found.name}`;
        groups.set(key, [...(groups.get(key) ?? []), found]);
    }
    return groups;
}

export function table(different) {
    const rows = different.map(({ direct, through }) => [
        (direct ?? through).scenario, (direct ?? through).id, direct?.status ?? 'not run', through?.status ?? 'not run',
        (through ?? direct).error.replaceAll(/\s+/g, ' ').slice(0, 200)
    ]);
    rows.unshift(['scenario', 'check', 'directly', 'through the gateway', 'what the suite says']);
    const widths = rows[0].map((_, column) => Math.max(...rows.map(row => row[column].length)));
    return rows.map(row => row.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd()).join('\n');
}
