//! What is done to nodes, and to the network between them. Each fault records itself. Imports cluster and history.

pub mod clock;
pub mod cut_clients;
pub mod damage;
pub mod full_disk;
pub mod kill;
pub mod one_way_partition;
pub mod packet_loss;
pub mod partition;
pub mod pause;
pub mod power_failure;
pub mod reset;
pub mod restart;
pub mod slow_line;
pub mod terminate;
pub mod wipe;
