import { mount } from 'svelte';
import './app.css';
import App from './App.svelte';
import { session } from './api/session.svelte';
import { router } from './lib/router.svelte';

router.start();
void session.start();
mount(App, { target: document.getElementById('app')! });
