async function selftestRecording() {}
