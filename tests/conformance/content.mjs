// Small pieces of content that several fixtures share.

/** A PNG of one red pixel. */
export const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';

/** A WAV file without a sample. */
export const SILENCE = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=';

export const text = value => ({ type: 'text', text: String(value) });
export const image = () => ({ type: 'image', data: PIXEL, mimeType: 'image/png' });
export const embedded = (uri, mimeType, value) => ({ type: 'resource', resource: { uri, mimeType, text: value } });

/** A form with one required field. */
export const form = (message, field, type = 'string') => ({
    message,
    requestedSchema: { type: 'object', properties: { [field]: { type } }, required: [field] }
});
