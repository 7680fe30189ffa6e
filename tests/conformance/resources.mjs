// The resources that the scenarios read, list and subscribe to.
import { ResourceTemplate } from '@modelcontextprotocol/server';

import { PIXEL } from './content.mjs';

export function resources(server) {
    const fixed = (name, mimeType, content) => {
        const uri = `test://${name}`;
        const about = { title: name, description: `The resource ${name}`, mimeType };
        server.registerResource(name, uri, about, async () => ({ contents: [{ uri, mimeType, ...content }] }));
    };
    fixed('static-text', 'text/plain', { text: 'This is the content of the static text resource.' });
    fixed('static-binary', 'image/png', { blob: PIXEL });
    fixed('watched-resource', 'text/plain', { text: 'Subscribe to me.' });

    const mimeType = 'application/json';
    const template = new ResourceTemplate('test://template/{id}/data', { list: undefined });
    server.registerResource('template', template, { description: 'One document for each id', mimeType }, async (uri, { id }) => ({
        contents: [{ uri: uri.href, mimeType, text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }]
    }));

    server.server.setRequestHandler('resources/subscribe', async () => ({}));
    server.server.setRequestHandler('resources/unsubscribe', async () => ({}));
}
