// Starts processes that say on standard output where they listen, and that end with this one.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const PATIENCE = 30_000;

/** Starts a program and waits until it says `listening=`; gives that address and a way to end it. */
export function start(program, words, { env = process.env, log } = {}) {
    const child = spawn(program, words, { env, stdio: ['pipe', 'pipe', log ?? 'inherit'] });
    process.on('exit', () => child.kill('SIGKILL'));
    return new Promise((resolve, reject) => {
        let said = '';
        const late = setTimeout(() => reject(new Error(`${program} did not say that it listens: ${said}`)), PATIENCE);
        child.on('error', reject);
        child.on('exit', code => reject(new Error(`${program} ended with ${code}: ${said}`)));
        child.stdout.on('data', chunk => {
            if (said.includes('listening=')) return;
            said += chunk;
            const address = /listening=(\S+)\s/.exec(said)?.[1];
            if (address === undefined) return;
            clearTimeout(late);
            child.removeAllListeners('exit');
            child.on('exit', () => (child.wanted ? undefined : console.log(`${program} ended too early`)));
            resolve({ address, stop: () => { child.wanted = true; child.kill('SIGKILL'); } });
        });
    });
}

/** Starts one server of the suite's fixtures. */
export async function startFixture({ path, naive }) {
    const words = [fileURLToPath(import.meta.resolve('./server.mjs')), '--path', path, ...(naive ? ['--naive'] : [])];
    const { address } = await start(process.execPath, words);
    return { url: address, origin: new URL(address).origin };
}

export function freePort() {
    return new Promise(resolve => {
        const socket = createServer().listen(0, '127.0.0.1', () => {
            const { port } = socket.address();
            socket.close(() => resolve(port));
        });
    });
}
