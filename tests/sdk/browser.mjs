// A real Chromium that a test drives by keyboard: one JSON command a line on standard input, one JSON answer a line.
//
//   node browser.mjs --chromium PATH --pictures DIRECTORY [--trust FILE] [--javascript off]
//
// `--trust` names the certificate of an authority that this browser trusts as if its person had imported it.
//
//   {"do": "open"}                      a new tab; the answer's `tab` is its number
//   {"do": "go", "url": URL}            types an address; `back` goes back
//   {"do": "reach", "name": NAME}       presses Tab until the focus is on what is called so
//   {"do": "write", "text": TEXT}       types
//   {"do": "press", "key": KEY}         presses a key; with `"leaves": true` waits for the page that it leads to
//   {"do": "look", "name": NAME}        axe-core, overflow and pictures in two sizes and both colour schemes
//   {"do": "tamper"}                    tries what the page's content security policy must stop
//   {"do": "cookies"}                   what the browser keeps
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

import { options } from './common.mjs';

const given = options({ chromium: '/usr/bin/chromium', pictures: '', trust: '' });
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SIZES = [{ width: 360, height: 740 }, { width: 1280, height: 800 }];
const PATIENCE = 15_000;
const profile = mkdtempSync(join(tmpdir(), 'portcullis-chromium-'));

if (given.trust) {
    const folder = join(profile, '.pki/nssdb');
    mkdirSync(folder, { recursive: true });
    const certutil = (...words) => execFileSync('certutil', ['-d', `sql:${folder}`, ...words]);
    certutil('-N', '--empty-password');
    certutil('-A', '-n', 'authority', '-t', 'C,,', '-i', given.trust);
}

const context = await chromium.launchPersistentContext(profile, {
    executablePath: given.chromium,
    args: [
        '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync'
    ],
    // Chromium looks for a person's own authorities in the home directory.
    env: { ...process.env, HOME: profile },
    viewport: SIZES[1],
    timeout: PATIENCE
});
context.setDefaultTimeout(PATIENCE);

/** Tabs in the order in which they were opened. */
const tabs = [];

async function open() {
    const page = await context.newPage();
    const tab = { page, problems: [], status: 0 };
    page.on('console', message => {
        // What the browser asks for by itself is no matter of the page, and where it came back to may have ended by then.
        const itself = message.location().url.endsWith('/favicon.ico');
        if (!itself && ['error', 'warning'].includes(message.type())) tab.problems.push(message.text());
    });
    page.on('pageerror', error => tab.problems.push(`${error}`));
    page.on('response', answer => {
        if (answer.request().isNavigationRequest()) tab.status = answer.status();
    });
    return tabs.push(tab) - 1;
}

/** Where a tab is and what it shows. */
async function seen({ page, problems, status }) {
    const shown = await page.evaluate(() => ({
        title: document.title,
        heading: document.querySelector('h1')?.textContent ?? '',
        text: document.body?.innerText ?? '',
        focused: document.activeElement?.textContent || document.activeElement?.name || ''
    }));
    // That a page has the status of an error is no fault of the page.
    const own = problems.filter(problem => !/^Failed to load resource: the server responded with a status of 4\d\d/.test(problem));
    return { url: page.url(), status, problems: own, ...shown };
}

/** Does what leads to another page, and waits for it. */
async function leaving({ page }, act) {
    const arrived = page.waitForEvent('framenavigated', frame => frame === page.mainFrame());
    await act();
    await arrived;
    await page.waitForLoadState('load');
}

/** What has the focus: its name as assistive technology says it, and whether a person sees that it has it. */
const focus = page => page.evaluate(() => {
    const at = document.activeElement;
    if (!at || at === document.body) return { name: '', visible: true };
    const style = getComputedStyle(at);
    const name = at.labels?.[0]?.textContent ?? at.textContent;
    const box = at.getBoundingClientRect();
    const within = box.top >= 0 && box.bottom <= innerHeight;
    const outlined = style.outlineStyle === 'auto' || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2);
    return { name: name.trim(), visible: within && outlined };
});

async function reach({ page }, name) {
    const passed = [];
    for (let presses = 0; presses < 30; presses += 1) {
        const at = await focus(page);
        if (!at.visible) throw new Error(`nobody sees that \`${at.name}\` has the focus`);
        if (at.name === name) return { passed };
        passed.push(at.name);
        await page.keyboard.press('Tab');
    }
    throw new Error(`Tab never reaches \`${name}\`: ${passed.join(', ')}`);
}

/** Judges a page in every size and colour scheme, and takes its picture. */
async function look({ page }, name) {
    const found = [];
    for (const size of SIZES) {
        for (const colorScheme of ['light', 'dark']) {
            const way = `${name}-${size.width}x${size.height}-${colorScheme}`;
            await page.setViewportSize(size);
            await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
            await page.evaluate(AXE);
            const { violations, incomplete } = await page.evaluate(() => window.axe.run({ resultTypes: ['violations', 'incomplete'] }));
            for (const { id, help, nodes } of [...violations, ...incomplete]) {
                found.push(`${way}: ${id}: ${help}: ${nodes.map(node => node.html).join(' ')}`);
            }
            const over = await page.evaluate(() => {
                const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
                const cut = [...document.querySelectorAll('main *')].filter(at => at.scrollWidth > at.clientWidth + 1 && getComputedStyle(at).display !== 'inline');
                return [...(wide ? ['the page'] : []), ...cut.map(at => at.outerHTML.slice(0, 80))];
            });
            found.push(...over.map(what => `${way}: wider than its place: ${what}`));
            if (given.pictures) await page.screenshot({ path: join(given.pictures, `${way}.png`), fullPage: true });
        }
    }
    await page.emulateMedia({ colorScheme: null, reducedMotion: null });
    return { found };
}

/** What a page that an attacker got words into would try. Names what worked. */
async function tamper({ page, problems }) {
    const before = problems.length;
    const worked = await page.evaluate(async () => {
        const done = [];
        const add = (tag, members) => document.body.appendChild(Object.assign(document.createElement(tag), members));
        add('script', { textContent: 'window.tampered = true' });
        if (window.tampered) done.push('script');
        add('style', { textContent: 'h1 { letter-spacing: 99px }' });
        if (getComputedStyle(document.querySelector('h1')).letterSpacing === '99px') done.push('style');
        const picture = add('img', { src: '/favicon.ico' });
        const frame = add('iframe', { src: location.href });
        await new Promise(resolve => setTimeout(resolve, 300));
        if (picture.complete && picture.naturalWidth > 0) done.push('image');
        try {
            if (frame.contentDocument?.querySelector('h1')) done.push('frame');
        } catch { /* another origin, as an error page has */ }
        await fetch('/').then(() => done.push('fetch'), () => {});
        return done;
    });
    return { worked, stopped: problems.splice(before).filter(problem => problem.includes('Content Security Policy')).length };
}

async function obey(command) {
    const tab = tabs[command.tab ?? 0];
    switch (command.do) {
        case 'open': return { tab: await open() };
        case 'go': return leaving(tab, () => tab.page.goto(command.url));
        case 'back': return leaving(tab, () => tab.page.goBack());
        case 'reach': return reach(tab, command.name);
        case 'write': return tab.page.keyboard.type(command.text);
        case 'press': return command.leaves ? leaving(tab, () => tab.page.keyboard.press(command.key)) : tab.page.keyboard.press(command.key);
        case 'look': return look(tab, command.name);
        case 'tamper': return tamper(tab);
        case 'cookies': return { cookies: await context.cookies() };
        default: throw new Error(`no such command: ${command.do}`);
    }
}

if (given.pictures) mkdirSync(given.pictures, { recursive: true });
const say = line => process.stdout.write(JSON.stringify(line) + '\n');
const commands = createInterface({ input: process.stdin });
commands.on('line', async line => {
    const command = JSON.parse(line);
    try {
        const done = await obey(command) ?? {};
        say({ ok: true, ...done, ...await seen(tabs[command.tab ?? done.tab ?? 0]) });
    } catch (error) {
        say({ ok: false, error: error.message });
    }
});
say({ ok: true, version: context.browser()?.version() ?? '' });
await once(commands, 'close');
await context.close();
rmSync(profile, { recursive: true, force: true });
process.exit(0);
