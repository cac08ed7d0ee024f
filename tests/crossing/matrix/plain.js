// dev.Echo as a plain Node function: JSON in, JSON out, errors thrown.
'use strict';

const CODES = { 5: 'NotFound', 9: 'FAILED_PRECONDITION', 10: 'Aborted' };
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const failure = (name, message) => Object.assign(new Error(message), { name });

exports.handler = async (event, { clientContext: { custom } }) => {
  const padded = (text) => text.padEnd(Math.ceil(text.length / 4) * 4, '=');
  const metadata = Object.entries(custom).flatMap(([name, value]) =>
    name.endsWith('-bin')
      ? value.split(',').map((part) => ({ name, binary: padded(part) }))
      : [{ name, text: value }],
  );
  switch (custom['grpc-method'].split('/')[2]) {
    case 'Unary':
    case 'BidiStream':
      return { text: event.text, index: 0, metadata };
    case 'ServerStream':
      if (event.failAfter) throw failure('Aborted', `failed after ${event.failAfter}, as asked`);
      await sleep((event.delay ?? 0) * event.count);
      return { text: event.text, index: 0, metadata };
    case 'Fail':
      throw failure(CODES[event.code], event.message);
    case 'Raise':
      throw new Error(event.message);
    case 'Sleep':
    case 'SleepAsync':
      return sleep(event.seconds);
    case 'Big':
      return { data: Buffer.alloc(Number(event.size)).toString('base64') };
  }
};
