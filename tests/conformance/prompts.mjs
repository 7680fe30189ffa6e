// The prompts that the scenarios list and get.
import { acceptedContent, inputRequired } from '@modelcontextprotocol/server';
import * as z from 'zod/v4';

import { embedded, form, image, text } from './content.mjs';

const says = (...contents) => ({ messages: contents.map(content => ({ role: 'user', content })) });

export function prompts(server) {
    const prompt = (name, description, run, argsSchema) =>
        server.registerPrompt(name, { description, ...(argsSchema && { argsSchema: z.object(argsSchema) }) }, run);

    prompt('test_simple_prompt', 'Takes no arguments', async () => says(text('This is a simple prompt for testing.')));
    prompt('test_prompt_with_image', 'Holds an image', async () => says(image(), text('Please analyze the image above.')));
    prompt(
        'test_prompt_with_arguments', 'Repeats its arguments',
        async ({ arg1, arg2 }) => says(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
        { arg1: z.string().describe('First test argument'), arg2: z.string().describe('Second test argument') }
    );
    prompt(
        'test_prompt_with_embedded_resource', 'Holds the resource it is asked for',
        async ({ resourceUri }) => says(
            embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.'),
            text('Please process the embedded resource above.')
        ),
        { resourceUri: z.string().describe('URI of the resource to embed') }
    );
    // A prompt that asks the user before it answers.
    prompt('test_input_required_result_prompt', 'Asks for its context first', async ({ mcpReq }) => {
        const context = acceptedContent(mcpReq.inputResponses, 'user_context')?.context;
        if (typeof context === 'string') return says(text(`Use the following context: ${context}`));
        return inputRequired({
            inputRequests: { user_context: inputRequired.elicit(form('What context should the prompt use?', 'context')) }
        });
    });
}
