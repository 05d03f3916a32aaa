// Whether the console has a connection open, for the navigation.

export const opened = $state({ console: false });
